"""Commands that a job does from beginning to end: what runs on the node."""
