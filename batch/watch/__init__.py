"""`foreshock watch`: evaluate checkpoints as a training run writes them, and raise the alarm in time."""
