"""What one array task does on a node: prompts, engines, evaluation, scoring, shards."""
