"""How long, and in how much memory, counting and loading many rows takes."""
