"""How long packing takes."""
