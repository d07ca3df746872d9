"""Running hostile code: a pre-imported zygote that forks one confined process per submission.

See docs/sandbox.md for the tiers and what each claims.
"""
