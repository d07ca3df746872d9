"""The files of a run: paths, row types, JSONL reading and writing, shards. All that `analysis` may see of `jobs`."""
