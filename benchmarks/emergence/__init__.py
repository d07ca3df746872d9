"""How good are forecasts of emergence, and are p-values uniform where there is nothing to find?

python -m benchmarks.emergence forecast --seeds 970:973     Brier and log score against the base rate
python -m benchmarks.emergence calibrate                    fit the forecast's correction on random worlds
python -m benchmarks.emergence null --runs 500              p-values and AUC on data without signal
"""
