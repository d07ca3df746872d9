"""Throughput of whole sweeps: `python -m benchmarks.throughput --help`."""
