"""Exploit rates and prefill log-probabilities of the three engines on a demo's trained checkpoints.

    python -m benchmarks.agreement DEMO_RESULTS [--steps 8,32] [--attempts 10] [--device cpu] [--dtype bfloat16]

The same sweep through transformers, vLLM in process and `vllm serve`; seeds draw other samples in every engine, so
rates are compared by Fisher's exact test in each (checkpoint, level), at 1% over all of them together (Holm 1979,
whose first step is Bonferroni's). Leaves with 1 when they differ. Needs vLLM.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from benchmarks.throughput.previous import server
from scipy.stats import fisher_exact

from foreshock.batch.config_file import load_config
from foreshock.batch.planning.make_plan import make_plan
from foreshock.batch.running.run import RunHooks, require_complete, run
from foreshock.jobs.records.jsonl import read_rows
from foreshock.jobs.records.rows import ERROR_KEY

LEVELS = [0, 10, 30]
LEVEL_OF_TEST = 0.01
Cell = tuple[str, int]


@dataclass
class Seen:
    """What an engine gave: samples and exploits by (checkpoint, level), log-probability sums and words' tokens."""

    n: Counter[Cell] = field(default_factory=Counter)
    k: Counter[Cell] = field(default_factory=Counter)
    sums: dict[tuple[Any, ...], tuple[float, int]] = field(default_factory=dict)


def main() -> None:
    """Run all, compare each with transformers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, metavar="DEMO_RESULTS")
    parser.add_argument("--steps", default="8,32")
    parser.add_argument("--attempts", type=int, default=10)
    parser.add_argument("--device", default="auto", help="auto: a GPU if there is one; the server always does that")
    parser.add_argument("--without-server", action="store_true", help="only the two engines in process")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    steps = [int(step) for step in options.steps.split(",")]
    with tempfile.TemporaryDirectory(prefix="agreement-") as scratch:
        engines = {"transformers": {"name": "transformers", "batch_size": 128}, "vllm": {"name": "vllm"}}
        seen = {name: sweep(options, Path(scratch) / name, engine, steps) for name, engine in engines.items()}
        if not options.without_server:
            seen["vllm serve"] = served(options, Path(scratch) / "served", steps)
    reference = seen.pop("transformers")
    p_values = [compare(name, other, reference) for name, other in seen.items()]
    n_tests = sum(len(values) for values in p_values)
    least = min(min(values) for values in p_values)
    print(
        f"\nleast p {least:.4f} of {n_tests}; equal at 1% over all where it is at least {LEVEL_OF_TEST / n_tests:.5f}"
    )
    sys.exit(least * n_tests < LEVEL_OF_TEST)


def compare(name: str, other: Seen, reference: Seen) -> list[float]:
    """Print a table; the tests' p-values."""
    print(f"\n{name} against transformers\n\n| checkpoint | words | transformers | {name} | p |\n|---|---|---|---|---|")
    p_values = []
    for cell in sorted(reference.n):
        a, b = ((seen.k[cell], seen.n[cell]) for seen in (reference, other))
        p_values.append(float(fisher_exact([[a[0], a[1] - a[0]], [b[0], b[1] - b[0]]]).pvalue))
        print(f"| {cell[0]} | {cell[1]} | {a[0]}/{a[1]} | {b[0]}/{b[1]} | {p_values[-1]:.3f} |")
    gaps = sorted(abs(value - other.sums[key][0]) / n for key, (value, n) in reference.sums.items())
    print(f"\n{len(gaps)} prefill log-probability sums: at most {gaps[-1]:.1e} nats a token apart, median ", end="")
    print(f"{gaps[len(gaps) // 2]:.1e}")
    return p_values


def served(options: argparse.Namespace, folder: Path, steps: list[int]) -> Seen:
    """One server a checkpoint."""
    folder.mkdir(parents=True)
    whole = Seen()
    for step in steps:
        plan = make_plan(configuration(options, folder, {"name": "fake"}, [step]))
        with server(plan.checkpoints[0], ["--dtype", options.dtype], folder) as url:
            part = sweep(options, folder, {"name": "openai", "options": {"base_url": url}}, [step])
        whole.n += part.n
        whole.k += part.k
        whole.sums |= part.sums
    return whole


def configuration(options: argparse.Namespace, folder: Path, engine: dict[str, Any], steps: list[int]) -> Any:
    """The sweep, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if engine["name"] in ("transformers", "vllm"):
        engine = {"device": options.device, "dtype": options.dtype, **engine}
    demo = options.demo.resolve()
    path = folder / f"agreement-{steps[0]}.yaml"
    checkpoints = {"dir": str(demo / "sft_checkpoints" / "demo-exploit" / "checkpoints"), "steps": steps}
    source = str(demo / "prefill_sources" / "conditioned.jsonl")
    document = {
        "name": "agreement",
        "results_dir": str(folder / f"results-{steps[0]}"),
        "checkpoints": checkpoints,
        "prefill": {"source": source, "levels": LEVELS, "assignment": "per_attempt"},
        "sampling": {"attempts": options.attempts, "max_tokens": 160},
        "prompt": {"instructions": "bare"},
        "engine": engine,
        "execution": {"cluster": "inline"},
    }
    path.write_text(yaml.safe_dump(document))
    return load_config(path)


def sweep(options: argparse.Namespace, folder: Path, engine: dict[str, Any], steps: list[int]) -> Seen:
    """Run it and count."""
    result = run(configuration(options, folder, engine, steps), sys.argv, RunHooks(), analysed=False)
    require_complete(result)
    seen = Seen()
    for file in result.layout.eval_files():
        for row in read_rows(file.path, ("task_id",)):
            if row.get(ERROR_KEY) is None:
                cell = (row["checkpoint"], row["prefill_level"])
                seen.n[cell] += 1
                seen.k[cell] += row["exploit_success"]
    for file in result.layout.logprob_files():
        for row in read_rows(file.path, ("task_id",)):
            key = (row["checkpoint"], row["prefill_level"], row["task_id"], row["prefill_sha256"])
            seen.sums[key] = (row["prefill_logprob_sum"], row["prefill_num_tokens"])
    return seen


if __name__ == "__main__":
    main()
