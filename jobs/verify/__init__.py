"""Problems, verifiers and the sandbox that runs submitted code."""
