"""Shards to tables to estimates to the report. Sees of `jobs` only its records."""
