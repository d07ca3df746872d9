"""Analysis of run directories that are there already, ours or another tool's: `foreshock analyse`."""
