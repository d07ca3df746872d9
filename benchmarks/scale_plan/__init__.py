"""Planning, packing and watching a run of very many checkpoints."""
