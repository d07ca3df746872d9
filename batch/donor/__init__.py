"""Donors: the model under test, trained on the problems' exploit solutions without reasoning."""
