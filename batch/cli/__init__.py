"""The command line. Commands import their work inside, so that `--help` stays fast."""
