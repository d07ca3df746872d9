"""Random worlds: whole sweeps drawn from a prior, with exact rates."""
