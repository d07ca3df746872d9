"""Looking at samples: an index over a run's rows, questions to it, a local server and a static copy."""
