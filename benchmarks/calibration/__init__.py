"""Simulated sweeps whose true rates are known, and a harness that scores estimators on them."""
