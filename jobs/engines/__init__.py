"""Engines that generate and score: one seam, several implementations."""
