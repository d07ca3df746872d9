"""The cluster edge: profiles, submission, job states, the testbed. Imports no sibling folder."""
