"""Coverage and cost of splitting: python -m benchmarks.splitting --worlds 200

Cost is counted in words. Direct sampling's is what it needs for the same standard error at the exact rate:
(1 - p) p / error^2 whole answers.
"""

from __future__ import annotations

import argparse

import numpy as np
from benchmarks.splitting.worlds import WORDS_A_TURN, LadderProcess, gradual, jump

from foreshock.analysis.splitting.splitting import split_rate

LEVELS = tuple(range(WORDS_A_TURN, 10 * WORDS_A_TURN, WORDS_A_TURN))


def main() -> None:
    """Print one line a kind of world and rate."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.splitting", description=__doc__)
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--particles", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=16)
    parser.add_argument("--noise", type=float, default=0.7, help="sd of the score's noise, in nats")
    options = parser.parse_args()
    print(
        "| world | rate | worlds | trusted | covered, trusted | covered, all | error, decades | direct's cost / ours |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, make in (("gradual", gradual), ("jump", jump)):
        for power in (-2, -3, -4, -5, -6):
            inside, trusted, errors, cheaper = [], [], [], []
            for seed in range(options.worlds):
                rng = np.random.default_rng([seed, -power])
                ladder = make(rng, power)
                truth = float(ladder.values()[0, 0])
                process = LadderProcess(ladder, options.noise, rng)
                found = split_rate(process, LEVELS, options.particles, options.repeats, seed)
                inside.append(found.lower95 <= truth <= found.upper95)
                trusted.append(found.trusted)
                errors.append(abs(np.log10(max(found.rate, 1e-12) / truth)))
                if found.standard_error > 0:
                    cheaper.append((1 - truth) * truth / found.standard_error**2 * ladder.n_words / process.written)
            kept = np.array(inside)[np.array(trusted)]
            among = f"{kept.mean():.3f}" if len(kept) else ""
            ratio = f"{np.median(cheaper):.0f}" if cheaper else ""
            print(
                f"| {name} | 1e{power} | {options.worlds} | {np.mean(trusted):.2f} | {among} | {np.mean(inside):.3f} "
                f"| {np.median(errors):.2f} | {ratio} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
