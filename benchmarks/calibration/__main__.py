"""Simulated sweeps on disk, and the calibration tables.

python -m benchmarks.calibration write --regime early --seed 0 --out DIR
python -m benchmarks.calibration score --regimes early,late --replicates 5
python -m benchmarks.calibration time
python -m benchmarks.calibration worlds --family paths --count 220
python -m benchmarks.calibration faults --family paths --count 60
python -m benchmarks.calibration learn
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.calibration.regimes import REGIMES, regime_named
from benchmarks.calibration.seconds import fastest_fits

LEARNING_SEED = 20261129
LEARNED = (
    ("traits", 15, 10), ("registers", 17, 9), ("rising", 14, 0), ("chains", 13, 7), ("phrases", 11, 7), ("fluid", 10, 5)
)  # fmt: skip
"""The random worlds that the shipped file was learned from: family, how many blocks of BLOCK worlds, and of how many of
these SIGNED worlds teach the detector of wrong inputs."""
BLOCK, SIGNED = 50, 25
TAUGHT_ONLY = (("fading", 6, 0),)
"""Blocks that teach the networks and take no part in calibrating them: their mechanism is that of families above."""
REPORTING_WORLDS = 930_000
"""Seed of the worlds that reported tables are of; nothing is chosen by them."""
REPORTED_REGIMES = (
    "early", "very_early", "late", "early_unconditioned", "late_unconditioned", "rare_donor", "attempts4",
    "hidden_route", "few_tasks", "short_sweep", "silent_control", "graded", "graded_unconditioned", "hard",
    "two_routes", "hard_late", "other_register", "rise_and_fall", "uneven_tasks", "far_donor",
)  # fmt: skip


def _write(options: argparse.Namespace) -> None:
    from benchmarks.calibration.experiment import simulate
    from benchmarks.calibration.write import write_experiment

    written = write_experiment(simulate(regime_named(options.regime), options.seed), options.out)
    for run in written.runs:
        print(run)
    print(written.donor_run)
    print(written.truth)


def _score(options: argparse.Namespace) -> None:
    import torch
    from benchmarks.calibration.harness import DEVELOPMENT_SEED, REPORTING_SEED, run_regime, table

    torch.set_num_threads(1)
    first = REPORTING_SEED if options.report else DEVELOPMENT_SEED
    first = options.first_seed if options.first_seed is not None else first
    seeds = range(first, first + options.replicates)
    names = list(REGIMES) if options.regimes == "all" else options.regimes.split(",")
    results = [run_regime(name, seeds) for name in names]
    print(f"seeds {seeds.start}..{seeds.stop - 1}")
    print(table(results, options.methods.split(",")))


def _time(options: argparse.Namespace) -> None:
    """CPU seconds of the headline fit of 16 surfaces of 9 x 10 cells, and of one 2D GP; the fastest of three.

    In a process of one thread, BLAS's included: it has one a core, which waits for work at full CPU time, and reads
    how many it may have as numpy is imported.
    """
    os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        for name, seconds in process.submit(fastest_fits, options.regime, options.seed).result().items():
            print(f"{name}: {seconds:.2f} s")


def _worlds(options: argparse.Namespace) -> None:
    from benchmarks.calibration.worlds_report import judge_worlds, regime_worlds, report, worlds_of

    if options.family == "regimes":
        worlds = regime_worlds(REPORTED_REGIMES, options.seed, options.count)
    else:
        worlds = worlds_of(options.family, options.seed, options.first, options.count)
    print(f"family {options.family}, seed {options.seed}, worlds {options.first}..{options.first + options.count - 1}")
    print(report(judge_worlds(worlds)))


def _faults(options: argparse.Namespace) -> None:
    from benchmarks.calibration.worlds_report import fault_report, worlds_of

    print(fault_report(worlds_of(options.family, options.seed, options.first, options.count), options.seed))


def _learn(options: argparse.Namespace) -> None:
    """About twenty minutes of CPU time; blocks of worlds that --cache holds are not drawn again."""
    import pickle

    import numpy as np
    from benchmarks.calibration.frontier import frontier
    from benchmarks.calibration.gather import Sample, gather, group_of, together
    from benchmarks.calibration.learn import learn, left_out
    from threadpoolctl import threadpool_limits

    from foreshock.analysis.headline.learned import as_bytes

    def block(family: str, first: int, signed: int) -> Sample:
        kept = options.cache / f"{family}-{first}.pkl" if options.cache else None
        if kept and kept.exists():
            return pickle.loads(kept.read_bytes())  # type: ignore[no-any-return]  # this command wrote it
        found = gather(family, options.seed, first, BLOCK, signed)
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(pickle.dumps(found))
        return found

    def blocks(listed: tuple[tuple[str, int, int], ...]) -> list[tuple[str, int, int]]:
        """Family, first world and how many are signed."""
        less = options.divide
        return [(name, i * BLOCK, SIGNED * (i < m)) for name, n, m in listed for i in range(max(n // less, 1))]

    places = blocks(LEARNED)
    parts = [block(*place) for place in places]
    more = [block(*place) for place in blocks(TAUGHT_ONLY)]
    sample, taught = together(parts), together([*parts, *more])
    alike = {"fluid": "registers", "rising": "registers"}
    names = np.array([alike.get(family, family) for family, _, _ in places])
    with threadpool_limits(1):  # sums in one order: the same file on every machine
        group, signs_group = names[group_of(sample.world)], names[group_of(sample.signs_world)]
        kept = options.cache / "left_out.npz" if options.cache else None
        if kept and kept.exists():
            raw = np.load(kept)["raw"]
        else:
            raw = left_out(sample, group, options.seed)
        if kept:
            np.savez_compressed(kept, raw=raw)
        found = learn(sample, taught, signs_group, raw, options.seed)
        content = as_bytes(found)
    options.out.write_bytes(content)
    print(f"{options.out}: {len(content) / 1024:.0f} KiB from {len(taught.kinds)} worlds, seed {options.seed}")
    family = np.array([name for name, _, _ in places])[group_of(sample.world)]
    print("zero cells of families left out, means over families and the worst of them (decades):")
    print(frontier(sample, family, group, raw, found.stretch))


def main() -> None:
    """Parse arguments and dispatch."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write", help="write run directories, a donor run and truth.csv")
    write.add_argument("--regime", choices=sorted(REGIMES), required=True)
    write.add_argument("--seed", type=int, default=0)
    write.add_argument("--out", type=Path, required=True)
    write.set_defaults(act=_write)
    judge = commands.add_parser("score", help="bias, RMSE, coverage, width and interval score of every method")
    judge.add_argument("--regimes", default="all", help="comma-separated names, or all")
    judge.add_argument("--replicates", type=int, default=5)
    judge.add_argument("--report", action="store_true", help="use the reporting seeds instead of development's")
    judge.add_argument("--first-seed", type=int, default=None)
    judge.add_argument("--methods", default="headline,importance,importance_defensive,jensen_bound,surprisal_bound")
    judge.set_defaults(act=_score)
    clock = commands.add_parser("time", help="seconds of the headline and GP fits, one thread")
    clock.add_argument("--regime", choices=sorted(REGIMES), default="early")
    clock.add_argument("--seed", type=int, default=0)
    clock.set_defaults(act=_time)
    for name, act, count, what in (
        ("worlds", _worlds, 220, "the headline on random worlds: by kind, by quantile of worlds, ranks"),
        ("faults", _faults, 60, "in how many worlds wrong inputs are noticed"),
    ):
        some = commands.add_parser(name, help=what)
        families = (
            "registers",
            "fluid",
            "traits",
            "chains",
            "phrases",
            "rising",
            "steep",
            "dressed traits",
            "dressed chains",
            "dressed phrases",
            "paths",
            "dressed paths",
            *(("regimes",) if name == "worlds" else ()),
        )
        some.add_argument("--family", choices=families, default="paths")
        some.add_argument("--seed", type=int, default=REPORTING_WORLDS)
        some.add_argument("--first", type=int, default=0)
        some.add_argument("--count", type=int, default=count, help="worlds; for regimes: seeds a regime")
        some.set_defaults(act=act)
    teach = commands.add_parser("learn", help="make analysis/headline/learned.npz again")
    teach.add_argument("--seed", type=int, default=LEARNING_SEED)
    teach.add_argument("--divide", type=int, default=1, help="use that many times fewer worlds, to try it out")
    teach.add_argument("--cache", type=Path, default=None, help="folder that keeps blocks of worlds as they are drawn")
    teach.add_argument("--out", type=Path, default=Path("analysis/headline/learned.npz"))
    teach.set_defaults(act=_learn)
    options = parser.parse_args()
    options.act(options)


if __name__ == "__main__":
    main()
