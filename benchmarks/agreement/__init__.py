"""Whether engines agree: `python -m benchmarks.agreement --help`."""
