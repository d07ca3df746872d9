"""Programs that run images on compute nodes, one file a kind."""
