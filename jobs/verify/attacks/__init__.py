"""Attacks on the sandbox and the judge, each a submission; run by the tests and by `attack_table`."""
