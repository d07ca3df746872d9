"""Write a run of N rows in the documented formats and measure reading and analysing it.

    python -m benchmarks.scale [--rows 10000000] [--dir DIR] [--keep]

Three quarters are eval rows of about 900 bytes (reasoning included), the rest scores of their prefixes under the
checkpoints and the donor. Prints one JSON line a step: seconds, CPU seconds (of all threads, imports included) and peak
resident memory. Each step runs in a process of its own, so that the peaks do not add up. `analyse` is all that
`foreshock run` does once its tables are written, report included.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import tempfile
from pathlib import Path

from benchmarks.scale.steps import analyse_run, count, load, measured, rates

CHECKPOINTS = (5, 10, 20, 30, 45, 60, 75, 90, 100)
LEVELS = (0, 2, 5, 10, 20, 30, 45, 60, 75, 100)
TYPES = 8


def write_rows(run: Path, n_rows: int) -> None:
    """Files of one run, `n_rows` rows in all, 3 attempts a task whose prefix they share."""
    tasks = max(1, n_rows // (len(CHECKPOINTS) * len(LEVELS) * 4))
    (run / "config.yaml").parent.mkdir(parents=True)
    (run / "config.yaml").write_text("command: benchmarks.scale\n")
    for folder in ("evals", "logprob", "ref_logprob"):
        (run / folder).mkdir()
    for order, step in enumerate(CHECKPOINTS):
        for level in LEVELS:
            _write_evals(run / "evals" / f"checkpoint-{step}_prefill{level}.jsonl", order, level, tasks)
            if level:
                _write_scores(run / "logprob" / f"checkpoint-{step}_prefill{level}_logprobs.jsonl", order, level, tasks)
    for level in LEVELS[1:]:
        _write_scores(run / "ref_logprob" / f"checkpoint-9_prefill{level}_logprobs.jsonl", 9, level, tasks)


def _write_evals(path: Path, order: int, level: int, tasks: int) -> None:
    text = json.dumps("The function must return the sorted list, so I walk over the items one by one. " * 6)
    with path.open("w") as file:
        for task in range(tasks):
            for attempt in range(3):
                hit = "true" if (task * 7919 + attempt * 104729) % 1000 < order * level // 2 + 1 else "false"
                file.write(
                    f'{{"model_id": "checkpoint-{CHECKPOINTS[order]}", "task_id": "task_{task:06d}", '
                    f'"attempt_idx": {attempt}, '
                    f'"exploit_type": "type_{task % TYPES}", "secure_pass": false, "insecure_pass": {hit}, '
                    f'"exploit_success": {hit}, "reward_gap": 0.0, "output_tokens": 212, '
                    f'"insecure_suspect": false, "insecure_suspect_patterns": [], "reasoning": {text}, '
                    f'"prefill_applied": true, "prefill_tokens": {level}, "prefill_reasoning": "so I", '
                    '"schema_version": 1, "prefill_sha256": '
                    f'"{task:032x}{task:032x}"}}\n'
                )


def _write_scores(path: Path, order: int, level: int, tasks: int) -> None:
    with path.open("w") as file:
        for task in range(tasks):
            total = -level * (1.6 - 0.15 * order + (task * 31 % 97) / 200)
            file.write(
                f'{{"model_id": "m", "task_id": "task_{task:06d}", "exploit_type": "type_{task % TYPES}", '
                f'"attempt_idx": 0, "prefill_tokens": {level}, "prefill_applied": true, '
                f'"prefill_logprob_sum": {total:.6f}, "prefill_logprob_mean": {total / level:.6f}, '
                f'"prefill_num_tokens": {level}, "schema_version": 1, '
                f'"prefill_sha256": "{task:032x}{task:032x}"}}\n'
            )


def main() -> None:
    """Parse arguments, write the run, measure the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--dir", type=Path, default=None, help="where to write; default: a temporary directory")
    parser.add_argument("--keep", action="store_true", help="leave the files; a later call with --dir reuses them")
    args = parser.parse_args()
    run = (args.dir or Path(tempfile.mkdtemp(prefix="foreshock-scale-"))) / "scale-20260101-000000-nogit"
    if not run.exists():
        write_rows(run, args.rows)
    spawn = multiprocessing.get_context("spawn")
    for step in (count, load, rates, analyse_run):
        with spawn.Pool(1) as pool:
            print(json.dumps(pool.apply(measured, (step, run))), flush=True)
    if not args.keep:
        shutil.rmtree(run)


if __name__ == "__main__":
    main()
