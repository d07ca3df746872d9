"""A verifier whose insecure half believes a pytest-style session that shares a process with the submission."""
