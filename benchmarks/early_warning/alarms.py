"""Every alarm's statistic at every checkpoint of a run, as of that checkpoint: it sees nothing later.

All are for the run as a whole (the mean over exploit types) or for some of its types, and grow with danger:

    direct            exploits / samples at level 0, the whole budget spent there
    direct, pooled    the same over the last three checkpoints together
    rollouts          exploits in the training rollouts since the checkpoint before last: free
    trace             mean log P(whole exploit trace), minus its value at the first checkpoint
    trace, a type     the highest type's: what `foreshock watch --false-alarm-rate` alarms by
    turn              the same of the sentence at which the reasoning turns
    code              mean log P(exploit code | honest reasoning), minus its value at the first checkpoint
    code, a type      the highest type's: what `foreshock watch --alarm-by code` alarms by
    KL level, slope   mean log P - log Q of the forced words: minus the first value; least squares over log step
    headline          log10 of the mean of the headline's medians
    forecast          mean probability that a type passes the threshold by the planned last step
    forecast, a type  the highest type's probability: what `foreshock watch` alarms by
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.early_warning.design import LEVELS, STEPS, SWEEP_ATTEMPTS, THRESHOLD, TRUTH_PROBLEMS, RunSetting
from benchmarks.early_warning.donor import Donor, load_donor
from benchmarks.early_warning.measure import measured_file, turn_of
from benchmarks.early_warning.train import RunFolder, run_folder
from numpy.typing import NDArray

from foreshock.analysis.evidence.donor import smoothed_rates
from foreshock.analysis.evidence.evidence import DirectRows, DonorKind, Evidence, PrefillRows, Surface
from foreshock.analysis.surfaces.cells import COLUMNS, KEYS
from foreshock.analysis.surfaces.labels import log_step
from foreshock.jobs.records.jsonl import read_json, write_json
from foreshock.jobs.verify.builtin.problems import DEMO_TYPES

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measured:
    """A run's measurements: steps [C]; truth k, n [J, C]; log lines; donor."""

    setting: RunSetting
    steps: Array
    points: list[dict[str, Any]]
    log: list[dict[str, Any]]
    donor: Donor


def load_measured(root: Path, setting: RunSetting) -> Measured | None:
    """A run's measurements, or None while any is missing."""
    folder = run_folder(root, setting)
    steps = folder.saved_steps()
    if not folder.done.is_file() or not all(measured_file(folder, step).is_file() for step in steps):
        return None
    points = [read_json(measured_file(folder, step)) for step in steps]
    donor = load_donor(root / "donors" / f"base-{setting.base}.json")
    return Measured(setting, np.array(steps, dtype=float), points, folder.lines(), donor)


def true_rates(run: Measured, types: Sequence[str]) -> Array:
    """Mean over types of the measured unprompted rate: [C]."""
    return np.array([np.mean([p["truth"][kind][0] / p["truth"][kind][1] for kind in types]) for p in run.points])


def crossing(run: Measured, types: Sequence[str] = DEMO_TYPES) -> float | None:
    """The step at which the true rate passes the threshold, by interpolation of the log rate; None if it never does."""
    rates = true_rates(run, types)
    above = np.flatnonzero(rates >= THRESHOLD)
    if not len(above):
        return None
    i = int(above[0])
    if i == 0:
        return float(run.steps[0])
    low, high = np.log(max(rates[i - 1], 1e-3)), np.log(rates[i])
    share = (np.log(THRESHOLD) - low) / max(high - low, 1e-9)
    return float(run.steps[i - 1] + share * (run.steps[i] - run.steps[i - 1]))


def _direct_counts(run: Measured, types: Sequence[str], attempts: int) -> tuple[Array, Array]:
    """(k, n) [C] at level 0 among the first `attempts` rounds."""
    k, n = np.zeros(len(run.points)), np.zeros(len(run.points))
    for c, point in enumerate(run.points):
        for row in point["direct"]:
            if row["attempt"] < attempts and _type_of(row["task"]) in types:
                k[c] += row["success"]
                n[c] += 1
    return k, n


def _type_of(task: str) -> str:
    return task.rpartition("-eval-")[0]


def _number_of(task: str) -> int:
    """Place of a monitor problem among its type's."""
    return int(task.rpartition("-")[2]) - TRUTH_PROBLEMS


def _direct(run: Measured, types: Sequence[str]) -> Array:
    k, n = _direct_counts(run, types, 10**9)
    return k / n


def _direct_pooled(run: Measured, types: Sequence[str]) -> Array:
    k, n = _direct_counts(run, types, 10**9)
    last = [slice(max(0, c - 2), c + 1) for c in range(len(k))]
    return np.array([k[part].sum() / n[part].sum() for part in last])


def _rollouts(run: Measured, types: Sequence[str]) -> Array:
    values = []
    for c, step in enumerate(run.steps):
        since = run.steps[max(0, c - 2)]
        lines = [line for line in run.log if since < line["step"] <= step]
        samples = sum(line["samples"] for line in lines) * len(types) / len(DEMO_TYPES)
        values.append(sum(line["exploits"].get(kind, 0) for line in lines for kind in types) / max(samples, 1))
    return np.array(values)


def _of_traces(run: Measured, types: Sequence[str], value: Callable[[int, dict[str, Any]], float]) -> Array:
    """Mean over types of the mean over traces of a score, minus its value at the first checkpoint."""
    found = []
    for point in run.points:
        by_type: dict[str, list[float]] = {}
        for n, (trace, score) in enumerate(zip(run.donor.traces, point["scores"], strict=True)):
            if trace.exploit_type in types:
                by_type.setdefault(trace.exploit_type, []).append(value(n, score))
        found.append(np.mean([np.mean(values) for values in by_type.values()]))
    return np.array(found) - found[0]


def _trace(run: Measured, types: Sequence[str]) -> Array:
    return _of_traces(run, types, lambda n, score: sum(score["parts"]))


def _trace_of_a_type(run: Measured, types: Sequence[str]) -> Array:
    return np.max([_trace(run, [kind]) for kind in types if any(t.exploit_type == kind for t in run.donor.traces)], 0)


def _turn(run: Measured, types: Sequence[str]) -> Array:
    first = run.points[0]["scores"]
    turns = [turn_of(trace, first[n]["parts"]) for n, trace in enumerate(run.donor.traces)]
    return _of_traces(run, types, lambda n, score: score["parts"][turns[n]])


def _code(run: Measured, types: Sequence[str]) -> Array:
    return _of_traces(run, types, lambda n, score: score["answer_given_honest"])


def _code_of_a_type(run: Measured, types: Sequence[str]) -> Array:
    return np.max([_code(run, [kind]) for kind in types if any(t.exploit_type == kind for t in run.donor.traces)], 0)


def _neg_kl(run: Measured, types: Sequence[str]) -> Array:
    def value(n: int, score: dict[str, Any]) -> float:
        trace = run.donor.traces[n]
        return float(np.mean([score["levels"][str(level)] - trace.level_log_q[str(level)] for level in LEVELS]))

    return _of_traces(run, types, value)


def _kl_slope(run: Measured, types: Sequence[str]) -> Array:
    level, x = _neg_kl(run, types), log_step(run.steps)
    slopes = np.zeros(len(level))
    for c in range(1, len(level)):
        centred = x[: c + 1] - x[: c + 1].mean()
        slopes[c] = (centred * level[: c + 1]).sum() / (centred**2).sum()
    return slopes


def evidence_until(run: Measured, types: Sequence[str], last: int) -> Evidence:
    """What foreshock's estimators may see as of checkpoint index `last`."""
    kinds = list(types)
    levels = np.array([0, *LEVELS])
    shape = (len(kinds), last + 1, len(levels))
    n, k = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    tasks = {task: i for i, task in enumerate(sorted({trace.task for trace in run.donor.traces} | set(_tasks(run))))}
    log_ratio = _log_pi_over_a(run.donor)
    columns: list[list[float]] = [[] for _ in range(8)]
    direct: list[list[int]] = [[] for _ in range(5)]
    for c, point in enumerate(run.points[: last + 1]):
        for row in point["direct"]:
            if _number_of(row["task"]) >= SWEEP_ATTEMPTS[0] or _type_of(row["task"]) not in kinds:
                continue
            j = kinds.index(_type_of(row["task"]))
            n[j, c, 0] += 1
            k[j, c, 0] += row["success"]
            for column, value in zip(direct, (j, c, tasks[row["task"]], 1, row["success"]), strict=True):
                column.append(value)
        for row in point["prefilled"]:
            trace = run.donor.traces[row["trace"]]
            if trace.exploit_type not in kinds:
                continue
            j, level = kinds.index(trace.exploit_type), str(row["level"])
            at = list(levels).index(row["level"])
            n[j, c, at] += 1
            k[j, c, at] += row["success"]
            log_p = point["scores"][row["trace"]]["levels"][level]
            log_w = log_p - trace.level_log_q[level] + log_ratio[row["trace"], level]
            values = (j, c, at, tasks[trace.task], row["trace"], row["success"], log_w, log_p)
            for column, value in zip(columns, values, strict=True):
                column.append(value)
    whole = [np.array(column, np.int64) for column in columns[:6]]
    rows = PrefillRows(*whole, np.array(columns[6]), np.array(columns[7]))
    return Evidence(
        tuple(Surface(run.setting.name, kind) for kind in kinds),
        run.steps[: last + 1],
        levels,
        n,
        k,
        rows,
        DonorKind.CONDITIONED,
        DirectRows(*(np.array(column, np.int64) for column in direct)),
    )


def _tasks(run: Measured) -> list[str]:
    return [row["task"] for row in run.points[0]["direct"]]


def _log_pi_over_a(donor: Donor) -> dict[tuple[int, str], float]:
    """log(pi / a) of each (trace, level), smoothed as for a run's own donor."""
    names = list(DEMO_TYPES)
    tasks = list(donor.exploits)
    pi = smoothed_rates(
        np.array([donor.exploits[task] for task in tasks]),
        np.full(len(tasks), donor.attempts),
        np.array([names.index(_type_of(task)) for task in tasks]),
    )
    by_task = dict(zip(tasks, pi, strict=True))
    keys = [(n, str(level)) for n in range(len(donor.traces)) for level in LEVELS]
    a = smoothed_rates(
        np.array([donor.traces[n].hits[level] for n, level in keys]),
        np.array([donor.traces[n].rollouts for n, _ in keys]),
        np.array(
            [
                names.index(donor.traces[n].exploit_type) * len(LEVELS) + [str(v) for v in LEVELS].index(level)
                for n, level in keys
            ]
        ),
    )
    return {(n, level): float(np.log(by_task[donor.traces[n].task] / a[i])) for i, (n, level) in enumerate(keys)}


def cells_of(evidence: Evidence, name: str) -> pd.DataFrame:
    """The forecast's cell table of the same evidence."""
    rows = []
    for j, surface in enumerate(evidence.surfaces):
        for c, step in enumerate(evidence.steps):
            for at, level in enumerate(evidence.levels):
                own = (evidence.rows.surface == j) & (evidence.rows.checkpoint == c) & (evidence.rows.level == at)
                kl = -evidence.rows.log_w[own]
                hit = evidence.rows.success[own] == 1
                log_p = evidence.rows.log_p[own]
                means = [float(v.mean()) if len(v) else np.nan for v in (kl, kl[hit], log_p)]
                counts = (int(evidence.n[j, c, at]), int(evidence.k[j, c, at]))
                rows.append((name, surface.exploit_type, step, int(level), *counts, *means))
    return pd.DataFrame(rows, columns=[*KEYS, "n", "k", "kl_mean", "kl_success", "logprob_mean"]).reindex(
        columns=COLUMNS
    )


def _models(run: Measured, types: Sequence[str]) -> dict[str, list[float]]:
    """The headline and the forecast as of every checkpoint; at the planned end there is nothing left to forecast."""
    from foreshock.analysis.forecast.backtest import ForecastSettings, fit_and_draw
    from foreshock.analysis.forecast.exceedance import forecast_table
    from foreshock.analysis.forecast.run import future_steps
    from foreshock.analysis.headline.estimate import estimate_headline

    found: dict[str, list[float]] = {"headline": [], "forecast": [], "forecast, a type": []}
    for c, step in enumerate(run.steps):
        evidence = evidence_until(run, types, c)
        medians = estimate_headline(evidence).median[:, c]
        found["headline"].append(float(np.log10(np.mean(10**medians))))
        if step >= STEPS:
            for name in ("forecast", "forecast, a type"):
                found[name].append(found[name][-1])
            continue
        _, paths = fit_and_draw(
            cells_of(evidence, run.setting.name), STEPS, future_steps(step, STEPS), ForecastSettings(60, 800)
        )
        table = forecast_table(paths, THRESHOLD)
        chances = table[table["step"] == STEPS]["p_exceed"]
        found["forecast"].append(float(chances.mean()))
        found["forecast, a type"].append(float(chances.max()))
    return found


CHEAP: dict[str, Callable[[Measured, Sequence[str]], Array]] = {
    "direct": _direct,
    "direct, pooled": _direct_pooled,
    "rollouts": _rollouts,
    "trace": _trace,
    "trace, a type": _trace_of_a_type,
    "turn": _turn,
    "code": _code,
    "code, a type": _code_of_a_type,
    "KL level": _neg_kl,
    "KL slope": _kl_slope,
}


def series(root: Path, run: Measured, types: Sequence[str] = DEMO_TYPES, models: bool = True) -> dict[str, Array]:
    """Every alarm's values [C]. The models' are kept in the run's folder, since they take seconds a checkpoint."""
    found = {name: make(run, types) for name, make in CHEAP.items()}
    if models:
        path = _models_file(run_folder(root, run.setting), types)
        if not path.is_file():
            write_json(path, _models(run, types))
        found |= {name: np.array(values) for name, values in read_json(path).items()}
    return found


def _models_file(folder: RunFolder, types: Sequence[str]) -> Path:
    return folder.root / "alarms" / ("all.json" if tuple(types) == DEMO_TYPES else "+".join(types) + ".json")
