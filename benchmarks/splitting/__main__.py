"""Coverage and cost of splitting: python -m benchmarks.splitting --worlds 200

Cost is counted in words. Direct sampling's is what it needs for the same standard error at the exact rate:
(1 - p) p / error^2 whole answers.
"""

from __future__ import annotations

import argparse

import numpy as np
from benchmarks.splitting.worlds import ChainProcess, rare_chain

from foreshock.analysis.splitting.splitting import split_rate

LEVELS = tuple(range(4, 60, 4))


def main() -> None:
    """Print one line a rate."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.splitting", description=__doc__)
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--particles", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=16)
    parser.add_argument("--noise", type=float, default=1.0, help="sd of the score's noise, in nats")
    options = parser.parse_args()
    print(
        "| rate | worlds | covered by 95% | median error in decades | standard error / rate | cost of direct / ours |"
    )
    print("|---|---|---|---|---|---|")
    for power in (-2, -3, -4, -5, -6):
        inside, errors, relative, cheaper = [], [], [], []
        for seed in range(options.worlds):
            rng = np.random.default_rng([seed, -power])
            chain = rare_chain(rng, power)
            truth = float(chain.unprompted()[0])
            process = ChainProcess(chain, options.noise, rng)
            found = split_rate(process, LEVELS, options.particles, options.repeats, seed)
            inside.append(found.lower95 <= truth <= found.upper95)
            errors.append(abs(np.log10(max(found.rate, 1e-12) / truth)))
            relative.append(found.standard_error / truth)
            direct = (1 - truth) * truth / max(found.standard_error, 1e-300) ** 2 * chain.n_words
            cheaper.append(direct / process.written)
        print(
            f"| 1e{power} | {options.worlds} | {np.mean(inside):.3f} | {np.median(errors):.2f} "
            f"| {np.median(relative):.2f} | {np.median(cheaper):.0f} |"
        )


if __name__ == "__main__":
    main()
