"""Two runs, or two checkpoints of one, compared task by task."""
