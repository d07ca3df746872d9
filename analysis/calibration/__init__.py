"""Estimates of the unprompted rate against rates that were sampled, and a map that corrects them."""
