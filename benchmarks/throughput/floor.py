"""The floor: the engine's best measured tokens a second at saturation, in a process of its own.

One call of the engine with every request of one checkpoint, nothing verified, nothing written; the best of several.
`python -m benchmarks.throughput.floor CONFIG REPEATS` prints one JSON line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml

from foreshock.batch.config import RunConfig
from foreshock.batch.config_file import load_config
from foreshock.batch.planning.make_plan import make_plan
from foreshock.jobs.engines.registry import create_engine
from foreshock.jobs.evaluate import Evaluator
from foreshock.jobs.prompts.registry import select_format
from foreshock.jobs.prompts.tokenizer import load_tokenizer
from foreshock.jobs.records.spec import JobKind
from foreshock.jobs.verify.fake import FakeVerifier


@dataclass(frozen=True, slots=True)
class Floor:
    """Best tokens a second of `repeats` saturated calls, and the seconds of one engine start."""

    tokens_per_s: float
    start_s: float


def measure_floor(config: RunConfig, folder: Path, repeats: int) -> Floor:
    """Measure it in a new process."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "floor.yaml"
    path.write_text(yaml.safe_dump(config.to_yaml_dict(), sort_keys=False))
    command = [sys.executable, "-m", "benchmarks.throughput.floor", str(path), str(repeats)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return Floor(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Generate, and generate again."""
    plan = make_plan(load_config(Path(sys.argv[1])))
    settings, checkpoint = plan.file.settings, plan.checkpoints[0]
    started = time.perf_counter()
    with create_engine(settings.engine, settings.engine_options) as engine, FakeVerifier() as verifier:
        engine.load(checkpoint)
        start_s = time.perf_counter() - started
        form = select_format(plan.config.prompt.format, load_tokenizer(checkpoint.path))
        evaluator = Evaluator(engine, verifier, form, plan.inputs, settings, lambda: False, lambda rows: None)
        specs = [s for s in plan.file.specs if s.kind is JobKind.EVAL and s.checkpoint == checkpoint]
        items = [item for spec in specs for item in evaluator.plan(spec)]
        requests = [replace(item.request, request_id=i) for i, item in enumerate(items)]
        best = 0.0
        for _ in range(int(sys.argv[2])):
            began = time.perf_counter()
            tokens = sum(len(result.token_ids) for result in engine.generate(requests))
            best = max(best, tokens / (time.perf_counter() - began))
    print(json.dumps(asdict(Floor(best, start_s))))


if __name__ == "__main__":
    main()
