"""The embedded demo: a tiny model in which reward hacking emerges, and the data it is trained on."""
