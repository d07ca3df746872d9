"""`--adaptive`: rounds on disk before their work, the same tables after any kill, the sweep's own tables untouched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from foreshock.analysis.evidence.load import load_evidence
from foreshock.analysis.tables import count_tasks
from foreshock.batch import heal
from foreshock.batch.config import RunConfig
from foreshock.batch.config_file import parse_config
from foreshock.batch.executors.slurm_scripts import plan_submission
from foreshock.batch.planning.make_plan import make_plan
from foreshock.batch.running import adaptive
from foreshock.batch.running.adaptive import read_rounds, round_file
from foreshock.batch.running.execute import execute
from foreshock.batch.running.run import RunHooks, create_run, require_complete, resume, run
from foreshock.batch.site import resolve_site
from foreshock.errors import InputError
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, write_pack
from foreshock.jobs.records.spec import JobKind
from foreshock.slurm.commands import SiteLimits
from foreshock.slurm.journal import Journal

BUDGET = 40


def settings(root: Path, sft: Path, traces: Path, **sections: dict[str, Any]) -> RunConfig:
    data: dict[str, Any] = {
        "name": "test",
        "results_dir": str(root / "results"),
        "checkpoints": {"dir": str(sft / "checkpoints")},
        "problems": {"exploit_types": ["process_exit", "test_case_leak"]},
        "prefill": {"source": str(traces), "levels": [0, 10]},
        "sampling": {"attempts": 2, "max_tokens": 4},
        "prompt": {"instructions": "bare"},
        "engine": {"device": "cpu", "dtype": "float32", "batch_size": 32, "threads": 1},
        "ground_truth": {"attempts": 2, "steps": [4]},
        "adaptive": {"enabled": True, "budget_samples": BUDGET},
        "execution": {"cluster": "inline", "shard_tasks": 4, "workers": 1},
    }
    return parse_config(data | sections)


def tables(layout: RunLayout) -> dict[str, bytes]:
    return {
        str(path.relative_to(layout.root)): path.read_bytes()
        for folder in ("evals", "logprob", "ground_truth", "extra", "adaptive")
        for path in sorted((layout.root / folder).glob("*.json*"))
    }


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, sft_run: Path, traces: Path) -> RunLayout:
    """An uninterrupted adaptive run, not analysed."""
    config = settings(tmp_path_factory.mktemp("adaptive"), sft_run, traces)
    result = run(config, ["foreshock", "run"], RunHooks(), analysed=False)
    require_complete(result)
    return result.layout


def test_rounds_spend_the_budget_and_no_more_each_on_its_own_checkpoints(finished: RunLayout) -> None:
    rounds = read_rounds(finished)
    assert [made["checkpoints"] for made in rounds] == [["checkpoint-4"], ["checkpoint-2"], ["checkpoint-1"]]
    assert [made["informed_by"] for made in rounds] == [[], ["checkpoint-4"], ["checkpoint-2", "checkpoint-4"]]
    spent = sum(made["spent"] for made in rounds)
    assert BUDGET - 10 < spent <= BUDGET  # a batch costs two attempts at five problems
    rows = [row for file in finished.extra_files() for row in rows_of(file.path)]
    assert len(rows) == spent
    for made in rounds:
        for cell in made["cells"]:
            mine = [
                r for r in rows_of(finished.extra_file(cell["checkpoint"])) if r["exploit_type"] == cell["exploit_type"]
            ]
            assert len(mine) == cell["attempts"] * cell["problems"]
            assert len({row["task_id"] for row in mine}) == cell["problems"]


def test_attempts_are_new_ones_and_the_sweeps_tables_keep_theirs(
    finished: RunLayout, tmp_path: Path, sft_run: Path, traces: Path
) -> None:
    assert min(row["attempt_idx"] for file in finished.extra_files() for row in rows_of(file.path)) == 2 + 2
    assert {row["attempt_idx"] for row in rows_of(finished.ground_truth_file("checkpoint-4"))} == {2, 3}
    plain = settings(tmp_path, sft_run, traces, adaptive={"enabled": False})
    layout = run(plain, ["foreshock"], RunHooks(), analysed=False).layout
    swept = {name: data for name, data in tables(finished).items() if not name.startswith(("extra", "adaptive"))}
    assert tables(layout) == swept
    # what depends on the number of attempts sees the sweep's; what models counts sees all
    assert set(count_tasks(finished.root)["n"]) == {2}
    extra = sum(made["spent"] for made in read_rounds(finished))
    n, m = (load_evidence([root]).evidence.direct()[0].sum() for root in (finished.root, layout.root))
    assert n == m + extra


def interrupt(monkeypatch: pytest.MonkeyPatch, where: str, after: int) -> None:
    """Die in the `after`-th call of `batch.adaptive`'s or the run's function of that name, after its effect."""
    import foreshock.batch.running.run as run_module

    module: Any = run_module if where == "execute" else adaptive
    real, calls = getattr(module, where), [0]

    def dying(*arguments: Any, **keywords: Any) -> Any:
        result = real(*arguments, **keywords)
        calls[0] += 1
        if calls[0] == after:
            raise SystemExit(9)
        return result

    monkeypatch.setattr(module, where, dying)


@pytest.mark.parametrize(("where", "after"), [("write_json", 1), ("write_json", 2), ("execute", 2), ("extra_specs", 2)])
def test_a_run_killed_in_any_round_resumes_to_the_same_tables(
    finished: RunLayout, tmp_path: Path, where: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = RunLayout(tmp_path / finished.name)
    # the sweep itself is the finished run's; only the rounds are done here
    shutil.copytree(finished.root, layout.root)
    for folder in ("extra", "adaptive", "shards/extra"):
        shutil.rmtree(layout.root / folder)
    plan = PlanFile.read(layout)
    swept = [spec for spec in plan.specs if spec.kind is not JobKind.EXTRA]
    PlanFile(tuple(swept), plan.settings, plan.skipped, plan.n_attempts, plan.n_rollouts, plan.extra).write(layout)
    with monkeypatch.context() as patch:
        interrupt(patch, where, after)
        with pytest.raises(SystemExit):
            resume(layout.root, RunHooks(), analysed=False)
    if where == "execute":  # and half of its work is lost
        next(iter(sorted((layout.shards / "extra").rglob("*.manifest.json")))).unlink()
    require_complete(resume(layout.root, RunHooks(), analysed=False))
    assert tables(layout) == tables(finished)


def test_the_report_says_where_attempts_went_and_what_they_saved(finished: RunLayout, tmp_path: Path) -> None:
    from foreshock.analysis.report.adaptive_section import adaptive_section

    section = adaptive_section(finished, tmp_path)
    saved = json.loads((tmp_path / "adaptive.json").read_text())
    assert saved["samples"] == sum(made["spent"] for made in read_rounds(finished))
    assert saved["width"] < saved["width_before"]
    assert f"{saved['samples']:,} further samples" in section.lead
    assert "checkpoint-4" in section.body_html


def planned(config: RunConfig) -> dict[str, Any]:
    from foreshock.batch.planning.summary import summarise

    return summarise(make_plan(config), resolve_site(config))


def test_the_plan_says_what_may_be_spent(tmp_path: Path, sft_run: Path, traces: Path) -> None:
    shown = planned(settings(tmp_path, sft_run, traces))["adaptive"]
    assert shown == {
        "budget_samples": BUDGET,
        "rounds": [["checkpoint-4"], ["checkpoint-2"], ["checkpoint-1"]],
        "evenly_spread_attempts": 1.33,
        "max_attempts": 64,
    }
    fraction = settings(tmp_path, sft_run, traces, adaptive={"enabled": True, "budget_fraction": 0.5})
    assert planned(fraction)["adaptive"]["budget_samples"] == 57  # of 3 x 2 x (10 + 9) rows
    assert planned(settings(tmp_path, sft_run, traces, adaptive={}))["adaptive"] is None


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"prefill": {"levels": [10], "source": "x.jsonl"}}, "adaptive spends attempts at level 0"),
        ({"sampling": {"rollouts": 2}}, "does not go with sampling.rollouts"),
        ({"adaptive": {"enabled": True, "budget": 3}}, "unknown key 'adaptive.budget'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    tmp_path: Path, sft_run: Path, traces: Path, sections: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        settings(tmp_path, sft_run, traces, **sections)


def test_on_slurm_the_last_job_submits_what_follows(
    tmp_path: Path, sft_run: Path, traces: Path, make_config: Callable[..., RunConfig]
) -> None:
    profile = tmp_path / "site.yaml"
    profile.write_text(yaml.safe_dump({"partition": "low", "max_array_size": 9, "array_throttle": 2}))
    execution = {"cluster": "slurm", "profile": str(profile), "shard_tasks": 4}
    config = settings(tmp_path, sft_run, traces, execution=execution, logprob={"honest_reasoning": "own"})
    plan = make_plan(config)
    layout = create_run(config, plan, ["foreshock", "run"])
    inline = make_config()
    tasks = heal.pack_tasks(list(plan.file.specs), resolve_site(inline))
    journal = Journal(layout.root)
    journal.save(plan_submission(write_pack(layout, tasks), tasks, resolve_site(config), SiteLimits(9, None), 0, 1))
    assert not execute(layout, PlanFile.read(layout), resolve_site(inline)).missing
    assert heal.main([str(layout.root), "--pack", str(journal.load_all()[-1].pack)]) == heal.EXIT_HEAL
    assert sum(spec.kind is JobKind.HONEST_LOGPROB for spec in PlanFile.read(layout).specs) == 3 * 3
    assert not round_file(layout, 1).is_file()  # first the exploit code after the run's own honest reasoning
    for number in range(3):
        assert not execute(layout, PlanFile.read(layout), resolve_site(inline)).missing
        assert heal.main([str(layout.root), "--pack", str(journal.load_all()[-1].pack)]) == heal.EXIT_HEAL
        # the job is killed while it submits and runs again: the same round, not another one
        entries = journal.load_all()
        assert heal.main([str(layout.root), "--pack", str(entries[-2].pack)]) == heal.EXIT_HEAL
        assert journal.load_all() == entries
        assert len(entries) == number + 3
        assert entries[-1].rounds_left == config.execution.heal
        assert round_file(layout, number + 1).is_file()
    assert not execute(layout, plan_now := PlanFile.read(layout), resolve_site(inline)).missing
    assert not heal.prepare_what_follows(layout, plan_now, journal.load_all()[-1])
