"""A foreshock sweep in a process of its own, with its engine's counters: `python -m benchmarks.throughput.ours CONFIG`.

The time is that of the whole process, from the interpreter's start to the tables on disk. Prints one JSON line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from benchmarks.throughput.outcome import Outcome
from benchmarks.throughput.timeline import traced

from foreshock.batch.config import RunConfig
from foreshock.batch.config_file import load_config
from foreshock.batch.running.run import RunHooks, require_complete, run
from foreshock.jobs.engines import factory
from foreshock.jobs.engines.base import Engine, PromptLogprobs, ScoreRequest
from foreshock.jobs.records.jsonl import read_rows
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.shards import ShardStore


def run_ours(config: RunConfig, folder: Path) -> Outcome:
    """The sweep of `config` in a new process."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config.to_yaml_dict(), sort_keys=False))
    started = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.throughput.ours", str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    wall_s = time.perf_counter() - started
    outcome = Outcome(**json.loads(done.stdout.splitlines()[-1]))
    outcome.wall_s = wall_s
    return outcome


def main() -> None:
    """Run the configuration inline and print what the engine counted."""
    engines: list[Engine] = []
    create = factory.create_engine

    scoring_tokens: list[int] = []

    def remember(name: str, options: Mapping[str, Any] | None = None) -> Engine:
        engine = create(name, options)
        score = engine.score

        def counted(requests: Sequence[ScoreRequest], temperature: float) -> Iterator[PromptLogprobs]:
            scoring_tokens.extend(len(request.token_ids) for request in requests)
            return score(requests, temperature)

        engine.score = counted  # type: ignore[method-assign]  # counts what it passes on
        engines.append(engine)
        return engine

    factory.create_engine = remember
    with traced() as timeline:
        result = run(load_config(Path(sys.argv[1])), sys.argv, RunHooks(), analysed=False)
    require_complete(result)
    outcome = Outcome(
        engine_starts=sum(getattr(engine, "builds", 0) for engine in engines),
        swaps=sum(getattr(engine, "swaps", 0) for engine in engines),
        scoring_forwards=sum(getattr(engine, "scored_sequences", 0) for engine in engines),
        scoring_tokens=sum(scoring_tokens),
        least_left=timeline.least_left(),
        longest_absence_s=timeline.longest_absence_s(),
        verify_s=timeline.verifying_s(),
        verify_beside_s=timeline.verifying_beside_s(),
    )
    for cell_file in result.layout.eval_files():
        outcome.add_rows(read_rows(cell_file.path, ("task_id",)))
    loads: set[float] = set()
    store = ShardStore(result.layout)
    for spec in PlanFile.read(result.layout).specs:
        manifest = store.manifest(spec)
        timings = {} if manifest is None else manifest.timings
        outcome.generate_s += timings.get("generate_s", 0.0)
        outcome.score_s += timings.get("score_s", 0.0)
        loads.add(timings.get("load_s", 0.0))
    outcome.start_s = sum(loads)
    print(json.dumps(outcome.to_json()))


if __name__ == "__main__":
    main()
