"""Every analysis of one or more runs: when it applies, what it finds, and how the report shows it."""
