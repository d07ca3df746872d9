"""From a configuration to a plan: checkpoints, problems, specs, memory."""
