"""From findings to one HTML file: the answer, whether to believe it, the evidence, the methods.

Everything is inside the file (figures as SVG, tables as data links up to a size, the rest named by path), so that it
can be mailed and opened years later without the run. Links to samples lead to a viewer beside it and say so where there
is none.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from markupsafe import Markup, escape

from foreshock.analysis.figures import SavedFigure
from foreshock.analysis.figures.answer import answer_figure
from foreshock.analysis.figures.palette import RunLooks
from foreshock.analysis.figures.runs import overview_figure, overview_table
from foreshock.analysis.page.links import sample_link
from foreshock.analysis.page.sections import Part, ReportTable, Section, bullets, html_table, paragraph
from foreshock.analysis.report.answer import Answer, answer
from foreshock.analysis.report.behind import TABLES, waiting_table
from foreshock.analysis.report.gather import ReportOptions, RunFindings, gather, run_labels
from foreshock.analysis.report.ground_truth_section import find_rates, truth_section
from foreshock.analysis.report.narrative import Sentence, cards, sentences
from foreshock.analysis.report.outlook import Forecast, Outlook, find_forecast, outlooks
from foreshock.analysis.report.rendering import whole_page
from foreshock.analysis.report.runs_section import runs_section
from foreshock.analysis.report.samples_section import samples_section
from foreshock.analysis.report.survival_text import fit_frame, fit_rows, waiting_frame, waiting_notes, waiting_rows
from foreshock.analysis.report.validity_section import validity_section
from foreshock.durable import atomic_write_bytes
from foreshock.errors import InputError

BEHAVIOUR = "checkpoints"
"""The anchor of the section on the checkpoints' behaviour."""
_OWN_ANCHORS = (
    "summary", "validity", "counts", "surface", "trajectories", "integration", "ground-truth", "samples", "runs",
    *TABLES,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """Where the report is, and its summary as plain lines."""

    path: Path
    summary: tuple[str, ...]


def write_report(
    run_dirs: Sequence[Path],
    output: Path,
    extra_sections: Sequence[Section] = (),
    options: ReportOptions | None = None,
    rates: pd.DataFrame | None = None,
) -> WrittenReport:
    """Count what `run_dirs` hold; write `output`, one HTML file. Tables and figures go to the runs' analysis/ folders.

    `extra_sections` follow the built-in ones. `rates` (rows of rates.csv) is set against ground truth; found in the
    runs' analysis/ folders when not given.

    Raises:
        InputError: no run named, a run without usable rows, two sections with one anchor.
    """
    options = options or ReportOptions()
    check_anchors(extra_sections)
    without = [str(path) for path in run_dirs if rates is None and find_rates([path]) is None]
    notes = (
        [f"rates were not estimated: foreshock analyse {shlex.join(without)} makes a report with them"]
        if without
        else []
    )
    return render_report(gather_runs(run_dirs, options), output, extra_sections, options, rates, notes=notes)


def gather_runs(run_dirs: Sequence[Path], options: ReportOptions) -> list[RunFindings]:
    """What the report says about each run, with its tables and figures in the run's analysis/ folder.

    A log-probability threshold computed from the first run that has one serves them all. Raises InputError as
    `write_report`.
    """
    if not run_dirs:
        raise InputError("no run to report on", fix="name one with --run-dir")
    runs: list[RunFindings] = []
    labels = run_labels(run_dirs, options.labels)
    looks = RunLooks.of(run_dirs, labels)
    for path, label in zip(run_dirs, labels, strict=True):
        runs.append(gather(path, label, options, looks))
        found = runs[-1].integration
        if found is not None and options.logprob_threshold is None:
            origin = f"{found.joined.threshold_origin} of {label}" if len(run_dirs) > 1 else None
            options = replace(options, logprob_threshold=found.joined.logprob_threshold, logprob_origin=origin)
    return runs


def render_report(
    runs: Sequence[RunFindings],
    output: Path,
    extra_sections: Sequence[Section] = (),
    options: ReportOptions | None = None,
    rates: pd.DataFrame | None = None,
    forecast: Forecast | None = None,
    notes: Sequence[str] = (),
) -> WrittenReport:
    """The page about runs that `gather_runs` looked at; arguments as in `write_report`. `forecast` is found in the
    runs' analysis/ folders when not given; `notes` say what could not be analysed."""
    options = options or ReportOptions()
    check_anchors(extra_sections)
    looks = RunLooks.of([run.run_dir for run in runs], [run.label for run in runs])
    folders = [options.place(run.run_dir, "forecast", None).parent for run in runs]
    rates = rates if rates is not None else find_rates([run.run_dir for run in runs])
    forecast = forecast or find_forecast(folders)
    types = [outlooks(run, rates, forecast) for run in runs]
    answers = [answer(run, own, forecast, notes) for run, own in zip(runs, types, strict=True)]
    figure = _answer_figure(
        [one for own in types for one in own], forecast, options.place(runs[0].run_dir, "answer", None), looks
    )
    sections = _sections(runs, extra_sections, options, rates, looks)
    page = whole_page(
        "template.html.j2",
        [run.run_dir for run in runs],
        output,
        looks,
        title=options.title,
        labels=[run.label for run in runs],
        answers=answers,
        colours={run.label: looks.colour(run.label) for run in runs},
        figure=figure,
        sections=sections,
        parts={Part.VALIDITY: "Before believing it", Part.EVIDENCE: "Evidence", Part.METHODS: "Methods"},
    )
    atomic_write_bytes(output, page.encode())
    return WrittenReport(output, tuple(_summary(runs, answers)))


def _summary(runs: Sequence[RunFindings], answers: Sequence[Answer]) -> list[str]:
    """The answer as plain lines that name the run where there are several."""
    lines = []
    for run, own in zip(runs, answers, strict=True):
        prefix = f"{run.label}: " if len(runs) > 1 else ""
        lines += [f"{prefix}{heading}: {text}" for heading, text in own.lines]
    return lines


def _sections(
    runs: Sequence[RunFindings],
    extra: Sequence[Section],
    options: ReportOptions,
    rates: pd.DataFrame | None,
    looks: RunLooks,
) -> list[Section]:
    """Every section, by part; within a part our own first, apart from samples and the runs' facts."""
    behaviour = next((section for section in extra if section.anchor == BEHAVIOUR), None)
    made = [
        validity_section(runs, behaviour),
        *extra,
        _counts_section(runs, _overview(runs, options, looks)),
        _surface_section(runs),
        _trajectory_section(runs, options),
        _integration_section(runs),
        truth_section(runs, rates, looks),
        samples_section(runs),
        runs_section(runs),
    ]
    return [section for part in Part for section in made if section is not None and section.part is part]


def _answer_figure(types: Sequence[Outlook], forecast: Forecast, folder: Path, looks: RunLooks) -> SavedFigure | None:
    rows = [
        {
            "run": one.run,
            "exploit_type": one.exploit_type,
            "checkpoint": one.step,
            "k": one.k,
            "n": one.n,
            "rate": None if one.rate is None else one.rate.value,
            "counted": one.rate is not None and one.rate.counted,
            "lower95": None if one.rate is None else one.rate.lower,
            "upper95": None if one.rate is None else one.rate.upper,
            "reason": "" if one.rate is None else one.rate.reason,
            "state": one.state.value,
            "probability": one.probability,
        }
        for one in types
    ]
    data = pd.DataFrame(rows).astype(dict.fromkeys(("rate", "lower95", "upper95", "probability"), float))
    return answer_figure(data, forecast.threshold, forecast.horizon, folder, looks)


def _counts_section(runs: Sequence[RunFindings], overview: SavedFigure | None) -> Section:
    """What was counted, in key figures and sentences."""
    body = Markup("")
    for run in runs:
        if len(runs) > 1:
            body += Markup("<h3>{}</h3>").format(run.label)
        made = Markup("").join(
            Markup('<div class="card"><b>{}</b><span>{}</span><small>{}</small></div>').format(
                card.value, card.label, sample_link(card.where, card.detail) if card.where else card.detail
            )
            for card in cards(run)
        )
        body += Markup('<div class="cards">{}</div>').format(made) + bullets(list(map(_linked, sentences(run))))
    figures = () if overview is None else (overview,)
    return Section("What was counted", "counts", body, figures, lead="Attempts and exploits, before any model.")


def _linked(sentence: Sentence) -> Markup:
    """A sentence, with links to the samples that it counts."""
    links = Markup(", ").join(sample_link(where, name) for name, where in sentence.links)
    return Markup("{} <small>Samples: {}</small>").format(sentence.text, links) if links else escape(sentence.text)


def check_anchors(sections: Sequence[Section]) -> None:
    """Raise InputError for sections that links could not tell apart."""
    seen = set(_OWN_ANCHORS)
    for section in sections:
        if section.anchor in seen or not section.anchor.replace("-", "").isalnum():
            raise InputError(
                f"section {section.title!r} has the anchor {section.anchor!r}; anchors are letters, digits and "
                f"hyphens, and differ from {', '.join(sorted(seen))}"
            )
        seen.add(section.anchor)


def _overview(runs: Sequence[RunFindings], options: ReportOptions, looks: RunLooks) -> SavedFigure | None:
    parts = []
    for run in runs:
        found = run.trajectory.subsets["all_exploits"].trajectory
        if found is not None:
            parts.append((run.label, run.pooled, found.frame))
    data = overview_table(parts)
    if data.dropna(subset=["rate"]).empty:
        return None
    return overview_figure(data, options.threshold, options.place(runs[0].run_dir, "overview", None), looks)


def _named(run: RunFindings, figures: Sequence[SavedFigure], several: bool) -> list[SavedFigure]:
    """Figures of one run: under its name where there are several, and with its samples."""
    named = []
    for figure in figures:
        values = tuple(
            replace(value, where={"run": run.label, **value.where}) if value.where else value for value in figure.values
        )
        title = f"{run.label}: {figure.title}" if several else figure.title
        named.append(replace(figure, title=title, values=values))
    return named


def _side_by_side(columns: Sequence[Sequence[SavedFigure]]) -> tuple[SavedFigure, ...]:
    """Figures of several runs, ordered so that the same figure of each run stands together."""
    order = list(dict.fromkeys(figure.name for column in columns for figure in column))
    return tuple(figure for name in order for column in columns for figure in column if figure.name == name)


def _surface_section(runs: Sequence[RunFindings]) -> Section:
    several = len(runs) > 1
    surfaces = _side_by_side([_named(run, run.surface[:1], several) for run in runs])
    by_type = _side_by_side([_named(run, run.surface[1:], several) for run in runs])
    return Section(
        title="The rate surface",
        anchor="surface",
        lead="How often an attempt exploits, at every checkpoint and prefill level.",
        body_html=paragraph(
            "Read along the bottom row for the unprompted rate, and upwards for what a longer kick does. "
            "Behaviour on its way shows as colour that comes down from the top as training goes on."
        ),
        figures=surfaces + by_type,
        tables=tuple(
            ReportTable(f"{run.label}: counts per exploit type, checkpoint and level", run.cells_csv) for run in runs
        ),
    )


def _trajectory_section(runs: Sequence[RunFindings], options: ReportOptions) -> Section:
    several = len(runs) > 1
    shown = [_named(run, run.trajectory.subsets["all_exploits"].figures, several) for run in runs]
    folded = [_named(run, run.trajectory.subsets["intentional_only"].figures, several) for run in runs]
    folded = [[replace(figure, title=f"{figure.title} (intentional only)") for figure in column] for column in folded]
    notes = []
    tables = []
    for run in runs:
        notes += _trajectory_notes(run)
        for name, subset in run.trajectory.subsets.items():
            for file in ("trajectory_analysis.csv", "descent_rates.csv", "min_prefill_by_attempts.csv"):
                if (subset.directory / file).is_file():
                    tables.append(
                        ReportTable(f"{run.label}, {name.replace('_', ' ')}: {file}", subset.directory / file)
                    )
    text = (
        "Min prefill is the smallest number of forced words at which any attempt exploits a task. It can only shrink "
        "as attempts are added, so compare runs at equal attempts. A task is at the threshold when "
        f"{options.threshold} words or fewer are enough. The folded figures hold intentional exploit types only "
        f"({options.intentional})."
    )
    return Section(
        title="Trajectories",
        anchor="trajectories",
        lead="How far each task is from being exploited, and how that distance shrinks over training.",
        body_html=paragraph(text) + bullets(notes),
        figures=_side_by_side(shown),
        folded=_side_by_side(folded),
        tables=tuple(tables),
    )


def _trajectory_notes(run: RunFindings) -> list[str]:
    summary = run.summary
    if not summary:
        return []
    notes = []
    if summary["max_level"] == 0:
        notes.append(f"{run.label}: only level 0 was measured; min prefill is 0 or none.")
    if len(summary["checkpoints"]) == 1:
        notes.append(f"{run.label}: one checkpoint, so nothing can be said about time.")
    if summary["n_tasks_without_prefill"]:
        notes.append(f"{run.label}: {summary['n_tasks_without_prefill']} tasks have no prefill and are left out.")
    if summary["n_rows_min_prefill_unknown"]:
        notes.append(
            f"{run.label}: min prefill is unknown for {summary['n_rows_min_prefill_unknown']} of {summary['n_rows']} "
            "pairs of task and checkpoint, because the largest level was not measured there."
        )
    return notes


def _integration_section(runs: Sequence[RunFindings]) -> Section:
    several = len(runs) > 1
    figures, tables, rows, times, notes = [], [], [], [], []
    for run in runs:
        if run.integration is None:
            notes.append(f"{run.label}: {run.integration_note}")
            continue
        figures.append(_named(run, run.integration.figures, several))
        rows += fit_rows(run.label, run.run_dir.resolve().name, run.integration.summary)
        times += waiting_rows(run.label, run.run_dir.resolve().name, run.integration.summary)
        notes += [f"{run.label}: {note}" for note in waiting_notes(run.integration.summary)]
        missing = run.integration.summary["rows"]["missing"]
        if missing:
            notes.append(f"{run.label}: {missing} rows have no score for their prefix and are left null.")
        for file in ("trajectory_with_logprob.csv", "threshold_timing.csv", "kaplan_meier.csv"):
            tables.append(ReportTable(f"{run.label}: {file}", run.integration.directory / file))
    body = paragraph(
        "A prefix that the model itself would almost write is a smaller kick than one it would never write, even at "
        "equal length. The log-probability of the needed prefix measures that."
    )
    if rows:
        body += html_table(fit_frame(rows, "integration-files"), {"r2": "R²", "p_clustered": "p, clustered by task"})
        body += paragraph(
            "Regressions of steps to threshold on one predictor, over the same rows: those before the threshold. Rows "
            "already there have 0 steps and few words by definition, so no claim rests on them. Rows of one task are "
            "not independent: read the p-value clustered by task."
        )
        body += paragraph(
            "Tasks that never reach the threshold have no number of steps and are missing above. They count here, as "
            "censored. Concordance is how often the task that is nearer by the measure gets there first (0.5 is "
            "chance). Hazard ratios come from a discrete-time hazard with one baseline per interval between "
            "checkpoints; above 1 means sooner."
        )
        body += html_table(waiting_frame(times, "integration-files")) + waiting_table(runs)
    return Section(
        title="Words or log-probability",
        anchor="integration",
        lead="Which measure warns earlier, and which predicts the threshold better.",
        body_html=body + bullets(notes),
        figures=_side_by_side(figures),
        tables=tuple(tables),
    )
