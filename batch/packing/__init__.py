"""From a plan to array tasks: what work costs, what it fits on, which specs share a loaded model."""
