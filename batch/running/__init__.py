"""Run a plan from the first sample to the report."""
