"""Prefill sources side by side: runs over the same checkpoints whose traces have other writers, and what they cost,
how far their rates are off, and when they alarm.

What was not measured is None with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from foreshock.analysis.comparison.alarms import ALARM_PROBABILITY, CodeLimit, Lead, leads, no_lead
from foreshock.analysis.evidence.estimate import Method
from foreshock.analysis.surfaces.labels import DEFAULT_THRESHOLD
from foreshock.analysis.tables import TableKind, checkpoint_label, count_tasks
from foreshock.analysis.tables.files import has_files
from foreshock.errors import InputError
from foreshock.jobs.records.checkpoint_names import result_step
from foreshock.jobs.records.jsonl import read_rows
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.rows import text_sha256
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.records.spec import SAMPLED_KINDS, JobKind, JobSpec, canonical_json

PREFILLS, ALONE = "prefills", "level 0 alone"
CODE, HONEST_CODE = "exploit code", "exploit code after honest reasoning"
_PHASES = ("load_s", "generate_s", "verify_s", "score_s")
_NO_CODE_LEAD = "no threshold: code after empty reasoning was never held against quiet runs (docs/early-warning.md)"


@dataclass(frozen=True, slots=True)
class Cost:
    """tokens: sampled. seconds: of workers, loading, sampling, verifying and scoring, on `devices`."""

    tokens: int | None
    seconds: float | None
    devices: tuple[str, ...]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Bias:
    """log10 of importance sampling's rate over the directly sampled one, mean over types of their mean over
    checkpoints, with 95% limits (Student's t over types; None with one). cells: in which both are known; reference:
    where the direct rates are from."""

    decades: float | None
    lower95: float | None
    upper95: float | None
    cells: int
    types: int
    reference: str | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One source of one run. source: the file that its traces were read from; writers: the models that it names."""

    run: str
    what: str
    source: str | None
    writers: tuple[str, ...]
    traces: int | None
    cost: Cost
    bias: Bias
    lead: Lead
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SideBySide:
    """All sources at the checkpoints that every run has. differences: in what else than the source the runs differ."""

    checkpoints: tuple[str, ...]
    threshold: float
    alarm_probability: float
    rows: tuple[SourceRow, ...]
    differences: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def side_by_side(runs: Sequence[Path], code: CodeLimit | None = None) -> SideBySide:
    """Sources of runs over the same models. code: when exploit code after honest reasoning alarms; None: never.

    Raises:
        InputError: a run that foreshock did not plan, whose config.yaml cannot be read or that is given twice; runs
            that share no checkpoint, or whose models differ at one.
    """
    if len({run.resolve() for run in runs}) < len(runs):
        raise InputError("one run is given twice", fix="name each source's run once")
    plans = [PlanFile.read(RunLayout(run)) for run in runs]
    names = _shared(runs, plans)
    steps = {name: step for name in names if (step := result_step(name)) is not None}
    rows = [row for run, plan in zip(runs, plans, strict=True) for row in _rows(run, plan, steps, code)]
    labels = tuple(checkpoint_label(float(step)) for step in sorted(steps.values()))
    return SideBySide(labels, DEFAULT_THRESHOLD, ALARM_PROBABILITY, tuple(rows), _differences(runs, plans, names))


def _differences(runs: Sequence[Path], plans: Sequence[PlanFile], names: set[str]) -> tuple[str, ...]:
    """Of prompts, problems, sampling and verifiers: what else may make the rows differ."""
    found = []
    for field in ("template_sha256", "problems", "sampling", "verifier"):
        values = [
            {_problems(run)}
            if field == "problems"
            else {getattr(s, field) for s in p.specs if s.kind is JobKind.EVAL and s.checkpoint.name in names}
            for run, p in zip(runs, plans, strict=True)
        ]
        found += [
            f"{run.resolve().name} differs from {runs[0].resolve().name} in {field}, too"
            for run, own in zip(runs[1:], values[1:], strict=True)
            if own != values[0]
        ]
    return tuple(found)


def _problems(run: Path) -> str | None:
    """Digest of the problems that a run froze, in any order; a spec's is of its own shard's."""
    path = RunLayout(run).problems
    if not path.is_file():
        return None
    return text_sha256("\n".join(sorted(map(canonical_json, read_rows(path)))))


def _shared(runs: Sequence[Path], plans: Sequence[PlanFile]) -> set[str]:
    """Names of the checkpoints that all runs have, which must be the same models. Raises InputError."""
    models = [{spec.checkpoint.name: spec.model_fingerprint for spec in plan.specs} for plan in plans]
    shared = set.intersection(*(set(own) for own in models))
    for name in sorted(shared):
        for run, own in zip(runs[1:], models[1:], strict=True):
            if own[name] != models[0][name]:
                raise InputError(
                    f"{name} is another model than that of {runs[0]}, so sources cannot be told from models",
                    path=run,
                    fix="--sources compares runs over the same checkpoints with other prefill.source",
                )
    if not any(result_step(name) is not None for name in shared):
        raise InputError("these runs share no numbered checkpoint", path=runs[-1])
    return shared


def _rows(run: Path, plan: PlanFile, steps: dict[str, int], code: CodeLimit | None) -> Iterator[SourceRow]:
    layout = RunLayout(run)
    own = [spec for spec in plan.specs if spec.checkpoint.name in steps]
    alone = [s for s in own if s.kind is JobKind.EXTRA or (s.kind is JobKind.EVAL and s.levels == (0,))]
    scored = [s for s in own if s.kind in (JobKind.LOGPROB, JobKind.REF_LOGPROB)]
    prefilled = [s for s in own if s.kind is JobKind.EVAL and s.levels != (0,)] + scored
    codes = {kind: [s for s in own if s.kind is kind] for kind in (JobKind.EXPLOIT_LOGPROB, JobKind.HONEST_LOGPROB)}
    config = _config(layout)
    found = leads(run, sorted(map(float, steps.values())), code)
    name = run.resolve().name
    if prefilled:
        source, writers, traces = _source(layout, config)
        bias, notes = _bias(run, config, sorted(steps.values()))
        yield SourceRow(name, PREFILLS, source, writers, traces, _cost(layout, prefilled), bias, found.prefilled, notes)
    none = Bias(None, None, None, 0, 0, None, "a score, and no rate")
    if specs := codes[JobKind.EXPLOIT_LOGPROB]:
        yield SourceRow(name, CODE, None, (), None, _cost(layout, specs), none, no_lead(_NO_CODE_LEAD))
    if specs := codes[JobKind.HONEST_LOGPROB]:
        notes = () if code is None else (str(code),)
        yield SourceRow(name, HONEST_CODE, None, (), None, _cost(layout, specs), none, found.code, notes)
    if alone:
        none = Bias(None, None, None, 0, 0, None, "is what bias is measured against")
        yield SourceRow(name, ALONE, None, (), None, _cost(layout, alone), none, found.alone)


def _config(layout: RunLayout) -> dict[str, Any]:
    """What the run was asked for. Raises InputError: without it nobody knows the donor, or how traces were chosen."""
    try:
        document = yaml.safe_load(layout.config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot be read: {' '.join(str(error).split())}", path=layout.config) from None
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict):
        raise InputError("holds no `config`, as foreshock writes it with every run", path=layout.config)
    return config


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _source(layout: RunLayout, config: dict[str, Any]) -> tuple[str | None, tuple[str, ...], int | None]:
    """File name, writers and number of the traces that the run froze."""
    given = _section(config, "prefill").get("source")
    path = layout.prefills
    rows = read_rows(path) if path.is_file() else None
    writers = sorted({str(row["model_id"]) for row in rows or () if row.get("model_id") is not None})
    return None if given is None else Path(str(given)).name, tuple(writers), None if rows is None else len(rows)


def _cost(layout: RunLayout, specs: Sequence[JobSpec]) -> Cost:
    """From the shards' manifests; a sum that lacks a part is no cost."""

    def none(why: str) -> Cost:
        return Cost(None, None, (), why)

    store = ShardStore(layout)
    manifests = [store.manifest(spec) for spec in specs]
    known = [found for found in manifests if found is not None and any(p in found.timings for p in _PHASES)]
    if len(known) < len(specs):
        return none(f"{len(specs) - len(known)} of {len(specs)} shards did not record their time")
    sampled = [found for spec, found in zip(specs, known, strict=True) if spec.kind in SAMPLED_KINDS]
    if any("output_tokens" not in found.timings for found in sampled):
        return none("shards did not record how many tokens they sampled")
    untimed = sum(found.n_records - found.timings.get("rows", found.n_records) for found in sampled)
    if untimed > 0.5:
        return none(f"shards that went on after a stop did not record the time of {untimed:.0f} rows before it")
    return Cost(
        round(sum(found.timings["output_tokens"] for found in sampled)),
        round(sum(found.timings.get(phase, 0.0) for found in known for phase in _PHASES), 1),
        tuple(sorted({found.device or "unknown device" for found in known})),
    )


def _bias(run: Path, config: dict[str, Any], steps: Sequence[int]) -> tuple[Bias, tuple[str, ...]]:
    from foreshock.analysis.estimates.prefilled import prefilled_estimates
    from foreshock.analysis.evidence.load import load_evidence

    donor = _section(config, "analysis").get("donor_run")
    conditioned = bool(_section(config, "prefill").get("conditioned", True))
    try:
        loaded = load_evidence([run], None if donor is None else Path(str(donor)), conditioned)
    except InputError as error:
        return Bias(None, None, None, 0, 0, None, str(error)), ()
    estimates = pd.DataFrame(
        [
            (estimate.exploit_type, float(estimate.checkpoint), estimate.log10_rate)
            for estimate in prefilled_estimates(loaded.evidence)
            if estimate.method is Method.IMPORTANCE and estimate.checkpoint in steps
        ],
        columns=["exploit_type", "checkpoint", "log10_rate"],
    )
    if estimates.empty:
        why = "no importance sampling: no log P and log Q of the prefills (logprob.reference names the donor)"
        return Bias(None, None, None, 0, 0, None, why), loaded.notes
    has_truth = has_files(run, TableKind.GROUND_TRUTH)
    kind = TableKind.GROUND_TRUTH if has_truth else TableKind.EVAL
    return bias_of(estimates, count_tasks(run), count_tasks(run, kind), kind.value), loaded.notes


def bias_of(estimates: pd.DataFrame, evals: pd.DataFrame, direct: pd.DataFrame, reference: str) -> Bias:
    """estimates: exploit_type, checkpoint, log10_rate (NaN without one). evals, direct: as `count_tasks` gives them.

    The direct rate is the mean over the tasks that were prefilled, since importance sampling speaks of these alone.
    """
    tasks = set(evals.loc[evals["prefill_level"] > 0, "task_id"].astype(str))
    zero = direct[(direct["prefill_level"] == 0) & (direct["n"] > 0) & direct["task_id"].astype(str).isin(tasks)]
    zero = zero.assign(rate=zero["k"] / zero["n"]).astype({"exploit_type": str, "checkpoint": float})
    rates = zero.groupby(["exploit_type", "checkpoint"], as_index=False)["rate"].mean()
    cells = estimates.astype({"log10_rate": float}).merge(rates, on=["exploit_type", "checkpoint"])
    both = cells[(cells["rate"] > 0) & np.isfinite(cells["log10_rate"])]
    if both.empty:
        why = "no exploit was sampled at level 0" if not (rates["rate"] > 0).any() else "no cell has both rates"
        return Bias(None, None, None, 0, 0, reference, why)
    off = both.assign(off=both["log10_rate"] - np.log10(both["rate"])).groupby("exploit_type")["off"].mean()
    means = off.to_numpy(np.float64)
    n, mean = len(means), float(means.mean())
    if n == 1:
        return Bias(mean, None, None, len(both), n, reference, "one type has no interval")
    half = float(stats.t.ppf(0.975, n - 1)) * float(stats.sem(means))
    return Bias(mean, mean - half, mean + half, len(both), n, reference)


def table_of(found: SideBySide) -> list[dict[str, str]]:
    """The rows as text, for people: one cell a column."""
    return [dict(_cells(row)) for row in found.rows]


def reasons_of(found: SideBySide) -> list[str]:
    """In what else the runs differ, why cells are empty, and what is known about how the rates were made."""
    lines = list(found.differences)
    for row in found.rows:
        parts = (("cost", row.cost.reason), ("bias", row.bias.reason), ("alarm", row.lead.reason))
        lines += [f"{row.run}, {row.what}: {name}: {why}" for name, why in parts if why is not None]
        lines += [f"{row.run}, {row.what}: {note}" for note in row.notes]
    return list(dict.fromkeys(lines))


def _cells(row: SourceRow) -> Iterable[tuple[str, str]]:
    cost, bias, lead = row.cost, row.bias, row.lead
    writers = ", ".join(row.writers[:3]) + (f" and {len(row.writers) - 3} more" if len(row.writers) > 3 else "")
    yield "run", row.run
    yield "source", row.what if row.source is None else f"{row.what}: {row.source}"
    yield "written by", writers
    yield "traces", "" if row.traces is None else f"{row.traces:,}"
    yield "tokens sampled", "" if cost.tokens is None else f"{cost.tokens:,}"
    yield "worker seconds", "" if cost.seconds is None else f"{cost.seconds:,.1f} ({', '.join(cost.devices)})"
    off = ""
    if bias.decades is not None:
        limits = "" if bias.lower95 is None else f" ({bias.lower95:+.2f} to {bias.upper95:+.2f})"
        off = f"{bias.decades:+.2f}{limits}, {bias.cells} cells"
    yield "bias, decades", off
    yield "first alarm", "" if lead.first is None else lead.first
    against = "" if lead.earlier is None else f"{lead.earlier} / {lead.same} / {lead.later}"
    yield "types earlier / same / later", against
    alarmed = sum(step is not None for step in lead.by_type.values())
    yield "false alarms", "" if lead.false_alarms is None or not lead.by_type else f"{lead.false_alarms} of {alarmed}"
