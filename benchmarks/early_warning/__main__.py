"""Train runs in which hacking may emerge, score every alarm on them, print the table. Resumable at any instant.

python -m benchmarks.early_warning all --root DIR --runs 48
python -m benchmarks.early_warning train --root DIR --runs 48
python -m benchmarks.early_warning score --root DIR
python -m benchmarks.early_warning table --root DIR
python -m benchmarks.early_warning calibrate --root DIR
python -m benchmarks.early_warning real RUN_DIR --rollouts rollouts.jsonl
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.early_warning.design import design
from benchmarks.early_warning.share import say, score_run, train_share
from benchmarks.early_warning.table import calibration, whole_report
from benchmarks.early_warning.train import base_checkpoint

from foreshock.errors import ForeshockError, InputError


def _train(options: argparse.Namespace) -> None:
    """Runs are shared out over processes of one thread each; a killed command goes on where it was."""
    until = time.time() + 3600 * options.hours
    settings = design(options.runs)
    shares = [settings[i :: options.workers] for i in range(options.workers)]
    arguments = [(options.root, share, until, options.allow_weak_sandbox) for share in shares]
    for setting in {setting.base: setting for setting in settings}.values():
        base_checkpoint(options.root, setting.base, say)  # before the processes, which would train it twice
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as processes:
        for done in processes.map(train_share, *zip(*arguments, strict=True)):
            say(done)


def _score(options: argparse.Namespace) -> None:
    """The headline and the forecast as of every checkpoint, the slow part of the table."""
    settings = design(options.runs)
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as processes:
        for line in processes.map(score_run, [options.root] * len(settings), settings):
            if line:
                say(line)


def _table(options: argparse.Namespace) -> None:
    print(whole_report(options.root, design(options.runs), models=not options.no_models))


def _all(options: argparse.Namespace) -> None:
    """Train, score, print."""
    for act in (_train, *(() if options.no_models else (_score,)), _table):
        act(options)


def _calibrate(options: argparse.Namespace) -> None:
    """What `foreshock watch --false-alarm-rate` reads."""
    content = calibration(options.root, design(options.runs))
    options.out.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{options.out}: {len(content['peaks']['trace'])} quiet runs")


def _real(options: argparse.Namespace) -> None:
    from benchmarks.early_warning.real_run import real_table, shown

    print(shown(*real_table(options.run_dir, options.rollouts, options.donor_run, options.last_step)))


def main() -> None:
    """Parse arguments and dispatch."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.early_warning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train and measure the design's runs")
    train.set_defaults(act=_train)
    whole = commands.add_parser("all", help="train, score and table, one after the other")
    whole.set_defaults(act=_all)
    for command in (train, whole):
        command.add_argument("--hours", type=float, default=24.0, help="start no further run after this time")
        command.add_argument("--allow-weak-sandbox", action="store_true")
    score = commands.add_parser("score", help="headline and forecast as of every checkpoint")
    score.set_defaults(act=_score)
    table = commands.add_parser("table", help="print the tables of the runs that are there")
    table.set_defaults(act=_table)
    for command in (table, whole):
        command.add_argument("--no-models", action="store_true", help="without headline and forecast")
    calibrate = commands.add_parser("calibrate", help="write the peaks of quiet runs for `foreshock watch`")
    calibrate.add_argument("--out", type=Path, default=Path("batch/watch/false_alarms.json"))
    calibrate.set_defaults(act=_calibrate)
    real = commands.add_parser("real", help="the alarms of one real training run")
    real.add_argument("run_dir", type=Path, help="a foreshock run over its checkpoints")
    real.add_argument("--rollouts", type=Path, help="JSONL with `step` and `exploit_success`")
    real.add_argument("--donor-run", type=Path, help="the donor's run, for importance weights")
    real.add_argument("--last-step", type=float, help="planned end of training; default: twice the last checkpoint")
    real.set_defaults(act=_real)
    for command in (whole, train, score, table, calibrate):
        command.add_argument("--root", type=Path, default=Path("early-warning-results"))
        command.add_argument("--runs", type=int, default=48, help="the first N runs of the design")
        command.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    options = parser.parse_args()
    try:
        options.act(options)
    except ForeshockError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)


if __name__ == "__main__":
    main()
