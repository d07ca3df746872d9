"""The report's first words: per run, what has emerged, what is foreseen, the highest rate, and what is not known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foreshock.analysis.figures.values import samples_of
from foreshock.analysis.page.sections import percent
from foreshock.analysis.report.gather import RunFindings
from foreshock.analysis.report.outlook import Forecast, Outlook, State
from foreshock.analysis.tables.schema import checkpoint_label

_NAMED = 12
"""Types named one by one in a sentence."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One run's answer: (heading, sentence) pairs in the order they are read, and filters that open the samples of the
    highest rate, and those of each exploit type that a heading's sentence names."""

    label: str
    lines: tuple[tuple[str, str], ...]
    highest: dict[str, str]
    links: Mapping[str, Mapping[str, Mapping[str, str]]]


def answer(run: RunFindings, types: Sequence[Outlook], forecast: Forecast, notes: Sequence[str] = ()) -> Answer:
    """What is known of a run and its types; `notes` say what was not analysed."""
    top = _highest(types)
    lines = [("Emerged", _emerged(types, forecast)), ("Foreseen", _foreseen(types, forecast))]
    lines.append(("Highest unprompted rate", _rate_text(top, types)))
    lines.append(("Not known", _unknown(run, types, forecast, notes)))
    name = run.run_dir.resolve().name
    where = {} if top is None else samples_of(name, top.step, 0, top.exploit_type)
    return Answer(run.label, tuple(lines), where, {heading: _samples(name, heading, types) for heading, _ in lines})


def _samples(run: str, heading: str, types: Sequence[Outlook]) -> dict[str, dict[str, str]]:
    """What each type's name leads to: once emerged, the unprompted samples that show it; else all of the type."""
    return {
        _plain(one.exploit_type): samples_of(run, one.since, 0, one.exploit_type)
        if heading == "Emerged" and one.since is not None
        else samples_of(run, kind=one.exploit_type)
        for one in types
    }


def _emerged(types: Sequence[Outlook], forecast: Forecast) -> str:
    certain = [one for one in types if one.state is State.EMERGED]
    probably = [one for one in types if one.state is State.PROBABLY]
    limit = f"{100 * forecast.threshold:g}%"
    if not certain and not probably:
        return f"No exploit type's unprompted rate is shown to be above {limit} at any checkpoint."
    text = f"{len(certain)} of {len(types)} exploit types are above {limit} by their counts alone"
    text += f": {_named(certain, lambda one: f'since step {_step(one.since)}')}." if certain else "."
    if probably:
        text += f" {len(probably)} more are more likely than not above it: {_named(probably)}."
    return text


def _foreseen(types: Sequence[Outlook], forecast: Forecast) -> str:
    if forecast.times is None:
        return "There is no forecast for this run."
    by = "the last step forecast to" if forecast.horizon is None else f"step {forecast.horizon:.0f}"
    limit = f"{100 * forecast.threshold:g}%"
    expected = sorted((o for o in types if o.state is State.FORESEEN), key=lambda o: -(o.probability or 0))
    possible = sorted((o for o in types if o.state is State.POSSIBLE), key=lambda o: -(o.probability or 0))
    unlikely = [o for o in types if o.state is State.UNLIKELY]
    if expected:
        text = f"{len(expected)} more likely than not to pass {limit} by {by}: {_named(expected, _when)}."
    else:
        text = f"No further type is more likely than not to pass {limit} by {by}."
    if possible:
        text += f" Possible: {_named(possible, lambda o: f'{100 * (o.probability or 0):.0f}%')}."
    if unlikely:
        most = max(o.probability or 0 for o in unlikely)
        text += f" Unlikely (at most {100 * most:.0f}%): {_named(unlikely)}."
    return text


def _when(one: Outlook) -> str:
    said = f"{100 * (one.probability or 0):.0f}%"
    if one.median is not None:
        span = f"{_beyond(one.earliest)} to {_beyond(one.latest)}"
        said += f", around step {one.median:.0f} (90%: {span})"
    return said + (", by the prior's growth" if one.rests_on == "prior growth" else "")


def _beyond(step: float | None) -> str:
    return "beyond the last step" if step is None else f"{step:.0f}"


def _highest(types: Sequence[Outlook]) -> Outlook | None:
    """The highest estimate at the last checkpoint; where nothing is one, the bound that leaves most open."""
    estimates = [one for one in types if one.rate is not None and one.rate.value is not None]
    if estimates:
        return max(estimates, key=lambda one: (one.rate.value if one.rate and one.rate.value else 0.0, one.k))
    bounds = [one for one in types if one.rate is not None]
    return max(bounds, key=lambda one: one.rate.upper if one.rate else 0.0) if bounds else None


def _rate_text(top: Outlook | None, types: Sequence[Outlook]) -> str:
    if top is None or top.rate is None:
        return "Level 0 was not measured at the last checkpoint, so there is no unprompted rate."
    rate = top.rate
    where = f"{_plain(top.exploit_type)} at {_at(top.step)}"
    span = f"95% interval {percent(rate.lower)} to {percent(rate.upper)}"
    seen = f"{top.k:,} of {top.n:,} attempts exploited"
    if rate.value is None:
        reason = f": {rate.reason}" if rate.reason else ""
        text = f"{where}: no estimate, only a bound, {percent(rate.lower)} to {percent(rate.upper)} ({seen}){reason}."
    elif rate.counted and not any(one.k for one in types):
        most = percent(rate.upper)
        return f"No unprompted exploit was seen at {_at(top.step)}; each type's rate is at most {most} (95%)."
    elif rate.counted:
        text = f"{where}: {percent(rate.value)} by counting alone ({span}; {seen}); it was not estimated."
    else:
        text = f"{where}: {percent(rate.value)}, an estimate ({span}; {seen})."
    if rate.value is not None:
        open_above = [o for o in types if o.rate and o.rate.value is None and o.rate.upper > rate.value]
        if open_above:
            text += f" {len(open_above)} types that have only bounds may lie above it: {_named(open_above)}."
    return text


def _unknown(run: RunFindings, types: Sequence[Outlook], forecast: Forecast, notes: Sequence[str]) -> str:
    said = []
    bounds = [one for one in types if one.rate is not None and one.rate.value is None]
    if bounds:
        reasons = Counter(one.rate.reason for one in bounds if one.rate and one.rate.reason)
        common = f" (most often: {reasons.most_common(1)[0][0]})" if reasons else ""
        said.append(f"the unprompted rate of {len(bounds)} of {len(types)} types, beyond a bound{common}")
    never = [one for one in types if one.exploits_anywhere == 0]
    if never:
        said.append(f"anything of types that no attempt exploited at any level: {_named(never)}")
    prior = [one for one in types if one.rests_on == "prior" and one.state is State.UNKNOWN]
    if prior:
        said.append(f"what comes of {_named(prior)}: their forecast is the prior's, not the data's")
    left = [one for one in types if one.probability is None and one.state is State.UNKNOWN]
    if left and forecast.times is not None:
        said.append(f"what comes of {_named(left)}: the forecast leaves them out")
    if forecast.times is None:
        said.append("what comes after the last checkpoint: nothing was forecast")
    if any(one.rate is not None and one.rate.counted for one in types):
        said.append("rates below one in the number of attempts: nothing was estimated beyond counting")
    unmeasured = [one for one in types if one.rate is None]
    if unmeasured:
        said.append(f"the unprompted rate now of {_named(unmeasured)}: not measured at the last checkpoint")
    if run.missing:
        said.append(f"{len(run.missing)} planned cells (checkpoint at level) that are missing")
    said += notes
    return "; ".join(said) + "." if said else "Nothing that was planned is missing, and every rate is an estimate."


def _named(types: Sequence[Outlook], more: object = None) -> str:
    shown = [_plain(one.exploit_type) + (f" ({more(one)})" if callable(more) else "") for one in types[:_NAMED]]
    rest = f" and {len(types) - _NAMED} more" if len(types) > _NAMED else ""
    return ", ".join(shown) + rest


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _at(step: float) -> str:
    return "the final checkpoint" if step == float("inf") else f"step {checkpoint_label(step)}"


def _step(step: float | None) -> str:
    return "?" if step is None else checkpoint_label(step)
