"""Further measurements of a run that is there, with its own models, problems, prompts and verifier."""
