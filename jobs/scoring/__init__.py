"""Log-probabilities: of every level of a trace, of whole traces, of exploit code."""
