"""Differential run against rh-indicators, the tool that foreshock replaces.

    python -m benchmarks.replaced --head CHECKOUT --seed CHECKOUT

Writes run directories in its format from a simulated experiment, runs its scripts (of its commits 1e8783d and 1030f39,
each checked out somewhere; nothing of them is kept here) and our commands on them, and compares the tables column by
column. What differs stands in docs/replaces.md with its reason.
"""
