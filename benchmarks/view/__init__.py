"""How long `foreshock view` takes over many samples."""
