"""Cells of exploit surfaces, and the metrics, features and labels that are made from them."""
