"""Ways to run a plan's array tasks: in process, local worker processes, Slurm."""
