"""Shards to the run's final tables."""

from foreshock.analysis.aggregate.checkpoint import AggregateReport
from foreshock.analysis.aggregate.write import aggregate

__all__ = ["AggregateReport", "aggregate"]
