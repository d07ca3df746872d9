"""Times and memory of a large run's plan.

    python -m benchmarks.scale_plan [--checkpoints 10000] [--levels 10] [--problems 64]

Checkpoints are made up (nothing of a model is read); specs, plan.json, the pack, a worker's reading of it, submission
to the fake executor and `foreshock status` are the real ones. Each part runs in a process of its own, whose peak memory
is printed with its seconds. With `--finished`, the run's shards are then sealed by the real writer (minutes, several
GB for the default size), its status is read twice (nothing is known the first time), `resume` looks for what is
missing; then the workers' bundling is done, and all that again. With `--tables`, tables are then made, twice, and read.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.scale_plan.finished import bundle, count_files, finish, forget

from foreshock.analysis.aggregate import aggregate
from foreshock.analysis.tables import TableKind, count_cells
from foreshock.analysis.tables.files import find_run_files
from foreshock.batch.config_file import parse_config
from foreshock.batch.executors.fake import FakeExecutor
from foreshock.batch.packing.cost import CostModel
from foreshock.batch.packing.pack import pack
from foreshock.batch.planning.make_plan import worker_settings
from foreshock.batch.planning.specs import ModelFacts, SpecBuilder
from foreshock.batch.running.execute import missing_specs
from foreshock.batch.status.read import read_status
from foreshock.jobs.inputs import RunInputs
from foreshock.jobs.prefill import PrefillTrace
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, read_pack, read_task, write_pack
from foreshock.jobs.records.spec import Checkpoint
from foreshock.jobs.verify.builtin.problems import builtin_problems


def measured(what: str, work: Callable[[], str]) -> None:
    """Run `work` in a new process; print its seconds, its peak memory and what it says."""
    parent, child = multiprocessing.Pipe()

    def run() -> None:
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        cpu = time.process_time()
        said = work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        child.send((time.perf_counter() - started, time.process_time() - cpu, before / 1024, peak / 1024, said))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    child.close()
    seconds, cpu, before, peak, said = parent.recv()
    process.join()
    print(f"{what:28} {seconds:8.2f} s {cpu:8.2f} s CPU, peak {peak:6.0f} MB ({before:.0f} before): {said}", flush=True)


def plan(layout: RunLayout, arguments: argparse.Namespace) -> str:
    """Make and write the plan."""
    levels = [0, *(10 * i for i in range(1, arguments.levels))]
    config = parse_config(
        {
            "name": "scale",
            "checkpoints": {"dir": str(layout.root)},
            "prefill": {"source": str(layout.root / "traces.jsonl"), "levels": levels},
        }
    )
    tasks = [f"problem-{i:04d}" for i in range(arguments.problems)]
    problems = {task: replace(builtin_problems("eval", None)[0], id=task) for task in tasks}
    words = " ".join(f"word{i}" for i in range(max(levels) + 1))
    traces = {task: (PrefillTrace(task, words, None, None, "made up"),) for task in tasks}
    inputs = RunInputs(problems, traces, config.prefill.assignment, config.sampling.attempts)
    settings = worker_settings(config, None)
    builder = SpecBuilder(config, inputs, "made-up", 0, settings, frozenset())
    specs = []
    for step in range(arguments.checkpoints):
        point = Checkpoint("run", step, Path(f"/nowhere/checkpoint-{step}"))
        specs += builder.of_checkpoint(point, ModelFacts(f"{step:064x}", "chat", "0" * 64))
    PlanFile(tuple(specs), settings).write(layout)
    size = layout.plan.stat().st_size / 2**20
    return f"{len(specs)} specs, {sum(spec.n_rows for spec in specs)} rows, plan.json {size:.1f} MB"


def looked_at(layout: RunLayout, *, tables: bool) -> None:
    """What reads every shard of a run."""
    print(f"files then: {count_files(layout.root)}")
    for what in ("status, the first time", "status, again"):
        measured(what, lambda: f"{sum(cell.state == 'done' for cell in read_status(layout).cells)} cells done")
    measured("resume looks for work", lambda: f"{len(missing_specs(layout, PlanFile.read(layout)))} shards missing")
    if tables:
        for what in ("tables", "tables, written anew"):
            measured(what, lambda: f"{aggregate(layout).files} tables")
            print(f"files then: {count_files(layout.root)}")
        measured("cells are found", lambda: f"{len(find_run_files(layout.root, TableKind.EVAL).cells)} cells")
        measured("tables are counted", lambda: f"{len(count_cells(layout.root))} of cells and types")


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=10_000)
    parser.add_argument("--levels", type=int, default=10)
    parser.add_argument("--problems", type=int, default=64)
    parser.add_argument("--workers", type=int, default=64, help="GPUs to pack for")
    parser.add_argument("--finished", action="store_true", help="seal all shards, then read the status")
    parser.add_argument("--tables", action="store_true", help="make the tables, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        layout = RunLayout(Path(folder))
        measured("plan, written", lambda: plan(layout, arguments))
        measured("plan, read", lambda: f"{len(PlanFile.read(layout).specs)} specs")

        def packed() -> str:
            specs = PlanFile.read(layout).specs
            tasks = pack(specs, CostModel(), arguments.workers, 24 * 60)
            write_pack(layout, tasks)
            size = (layout.root / "packs" / "pack-0000.json").stat().st_size
            return f"{len(tasks)} tasks, pack {size / 2**20:.1f} MB"

        measured("packed, written", packed)

        def submitted() -> str:
            tasks = read_pack(layout, 0, PlanFile.read(layout))
            executor = FakeExecutor()
            executor.submit(layout, 0, tasks)
            return f"{len(executor._reports)} tasks"

        measured("submitted (fake)", submitted)
        measured(
            "a worker reads its task", lambda: f"{len(read_task(layout, 0, 0, PlanFile.read(layout)).specs)} specs"
        )
        measured("status", lambda: f"{len(read_status(layout).cells)} cells")
        print(f"files before any work: {count_files(layout.root)}")
        if arguments.finished:
            measured("all shards sealed", lambda: finish(layout))
            looked_at(layout, tables=False)
            forget(layout)
            measured("bundled, as by workers", lambda: bundle(layout))
            looked_at(layout, tables=arguments.tables)


if __name__ == "__main__":
    main()
