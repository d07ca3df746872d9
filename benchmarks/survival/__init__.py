"""Are hazard ratios and Kaplan-Meier curves of `integrate` right where the truth is known?

Trajectories are drawn from known hazards and go through the same functions as those of a run: `waits`, `hazard_models`,
`kaplan_meier`. `python -m benchmarks.survival` prints how often 95% intervals hold the truth.
"""
