"""Small jobs that find out what a Slurm site does: `foreshock doctor --slurm PROFILE`."""
