"""How far a run is, from its shards, its tables and the cluster."""
