"""Adaptive attempts on simulated sweeps: bias of k/n, coverage, and what they save."""
