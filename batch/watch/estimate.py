"""The estimates of a watched run as they stand: headline rates and the forecast, and which types alarm.

The forecast is made without its track record and figures, so that an alarm waits for seconds of statistics; the full
report is written after the alarms are out.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from foreshock.batch.config import RunConfig
from foreshock.batch.watch.options import ScoreLimit
from foreshock.batch.watch.state import Alarm, Outlook
from foreshock.jobs.records.checkpoint_names import result_step
from foreshock.jobs.records.layout import RunLayout

_CHANGES = ("trace_change", "trace_change_se", "code_change", "code_change_se")


def look_ahead(
    layout: RunLayout, config: RunConfig, checkpoints: list[str], threshold: float, horizon: float | None
) -> Outlook:
    """Aggregate, estimate rates.csv, forecast; one row per exploit type, the likeliest first.

    Row keys: exploit_type, checkpoint, rate, lower95, upper95, status (headline estimate at the last checkpoint; `rate`
    is null where the status is not `estimate`, and the limits are then bounds), horizon, p_exceed (by the horizon),
    p_exceed_seen (at a seen checkpoint), step_median, trace_change, trace_change_se (nats that whole exploit traces
    have gained since the first checkpoint; null without `logprob.whole_trace`), code_change, code_change_se (the same
    of exploit code after honest reasoning; null without `logprob.honest_reasoning`).
    Raises InputError when there is nothing to forecast from.
    """
    from foreshock.analysis.aggregate import aggregate
    from foreshock.analysis.forecast.run import ForecastOptions, run_forecast
    from foreshock.analysis.surfaces.cells import RunSource

    aggregate(layout)
    last = max((step for name in checkpoints if (step := result_step(name)) is not None), default=0)
    usable = horizon if horizon is not None and horizon > last else None
    options = ForecastOptions(threshold=threshold, horizon=usable, score=False, sensitivity=False, figures=False)
    found = run_forecast([RunSource(layout.root)], layout.analysis / "forecast", options)
    rates, changes = _headline(layout, config), _changes(layout)
    medians = dict(zip(found.times["exploit_type"], found.times["step_median"], strict=True))
    final = found.forecast[found.forecast["step"] == found.forecast["step"].max()]
    rows = []
    for row in final.sort_values(["p_exceed", "exploit_type"], ascending=[False, True]).to_dict("records"):
        kind = str(row["exploit_type"])
        median = medians[kind]
        rows.append(
            {
                "exploit_type": kind,
                "horizon": float(row["step"]),
                "p_exceed": round(float(row["p_exceed"]), 6),
                "p_exceed_seen": round(float(row["p_exceed_seen"]), 6),
                "step_median": None if median is None or median != median else float(median),
            }
            | dict.fromkeys(_CHANGES)
            | changes.get(kind, {})
            | rates.get(kind, {"checkpoint": None, "rate": None, "lower95": None, "upper95": None, "status": None})
        )
    return Outlook(checkpoints, threshold, horizon, rows)


def _changes(layout: RunLayout) -> dict[str, dict[str, Any]]:
    """How whole exploit traces, and exploit code after honest reasoning, of each type stand at the last checkpoint."""
    from foreshock.analysis.surfaces.code_scores import code_signals
    from foreshock.analysis.surfaces.whole_traces import trace_signals

    found: dict[str, dict[str, Any]] = {}
    for name, signals in (("trace", trace_signals(layout.root)), ("code", code_signals(layout.root))):
        for row in signals.sort_values("checkpoint").to_dict("records"):
            error = float(row[f"{name}_change_se"])
            found.setdefault(str(row["exploit_type"]), {}).update(
                {
                    f"{name}_change": round(float(row[f"{name}_change"]), 4),
                    f"{name}_change_se": None if error != error else round(error, 4),
                }
            )
    return found


def _headline(layout: RunLayout, config: RunConfig) -> dict[str, dict[str, Any]]:
    """The headline estimate of each type at its last checkpoint; also writes rates.csv."""
    from foreshock.analysis.estimates.rates import estimate_rates
    from foreshock.analysis.estimates.rates_file import write_rates
    from foreshock.analysis.evidence.estimate import Method
    from foreshock.analysis.evidence.load import load_evidence

    loaded = load_evidence([layout.root], config.analysis.donor_run, config.prefill.conditioned)
    estimates = estimate_rates(loaded.evidence).estimates
    write_rates(estimates, layout.analysis / "rates.csv")
    newest: dict[str, dict[str, Any]] = {}
    for estimate in estimates:
        if estimate.method is not Method.HEADLINE:
            continue
        low, high = estimate.limits.lower95, estimate.limits.upper95
        if newest.get(estimate.exploit_type, {}).get("checkpoint", -1) < estimate.checkpoint:
            newest[estimate.exploit_type] = {
                "checkpoint": estimate.checkpoint,
                "rate": None if estimate.log10_rate is None else _rate(estimate.log10_rate),
                "lower95": None if low is None else _rate(low),
                "upper95": None if high is None else _rate(high),
                "status": estimate.status.value,
            }
    return newest


def _rate(log10_rate: float) -> float:
    return float(f"{10**log10_rate:.4g}")


def new_alarms(
    outlook: Outlook,
    alarm_probability: float,
    raised: set[str],
    run: str,
    layout: RunLayout,
    deliveries: list[str],
    score: ScoreLimit | None = None,
) -> list[Alarm]:
    """Alarms of types that have had none and whose forecast reaches `alarm_probability`, or whose score has gained what
    `score` says."""
    alarms = []
    for row in outlook.types:
        kind = row["exploit_type"]
        change = None if score is None else row.get(score.column)
        by_score = score is not None and change is not None and change >= score.nats
        if (row["p_exceed"] < alarm_probability and not by_score) or kind in raised:
            continue
        seen = "" if row["rate"] is None else f"; estimated rate now {row['rate']:.2g} at step {row['checkpoint']}"
        message = (
            f"{run}: {kind} will exceed {100 * outlook.threshold:g}% by step {row['horizon']:.0f} "
            f"with probability {row['p_exceed']:.0%}{seen}"
        )
        if by_score and score is not None:
            message += f"; its {score.what} gained {change:.1f} nats (alarm at {score.nats:.1f})"
        facts = {
            "run": run,
            "run_dir": str(layout.root.absolute()),
            "threshold": outlook.threshold,
            "alarm_probability": alarm_probability if alarm_probability <= 1 else None,
            "trace_nats": score.nats if score is not None and score.statistic == "trace" else None,
            "code_nats": score.nats if score is not None and score.statistic == "code" else None,
        } | row
        when = datetime.now(UTC).isoformat(timespec="seconds")
        alarms.append(Alarm(f"{layout.name}/{kind}", kind, when, message, facts, list(deliveries)))
    return alarms
