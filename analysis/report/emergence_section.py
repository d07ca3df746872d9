"""The report's section on emergence: can it be told early which types will emerge, and how sure is that?"""

from __future__ import annotations

import pandas as pd
from markupsafe import Markup

from foreshock.analysis.emergence.figures import TYPES_TABLE
from foreshock.analysis.emergence.power import POWER_AUCS, SIGNIFICANT
from foreshock.analysis.emergence.run import EmergenceRun
from foreshock.analysis.figures.palette import RunLooks
from foreshock.analysis.page.sections import ReportTable, Section, computed_from, html_table, paragraph
from foreshock.analysis.report.behind import types_table

_NAMES = {
    "checkpoints_seen": "checkpoints seen",
    "auc_within_run": "AUC within runs",
    "auc": "AUC",
    "interval": "95% interval",
    "p_value": "p (alone)",
    "p_value_grid": "p (given all tried)",
    "n": "types",
    "n_positive": "of them emerging",
}


def emergence_section(run: EmergenceRun, looks: RunLooks | None = None) -> Section:
    """A `Section` from a finished analysis."""
    body = [
        paragraph(
            "A type of exploit emerges when its unprompted rate passes "
            f"{_percent(run.summary['threshold'])}. For every cutoff, the types that have not emerged by then are "
            "ranked by something measured up to the cutoff, and the ranking is compared with what happens afterwards. "
            "AUC is the chance that a type that will emerge is ranked above one that will not: 0.5 is guessing, "
            "1 is perfect."
        ),
        _verdict(run),
        _power_text(run),
        _best_table(run.results),
        paragraph(
            "Read the AUC within runs first: it compares types of the same run only, so it cannot profit from "
            "merely telling an exploit-trained run from a control run. The second p-value counts how many "
            "metrics, models and cutoffs were tried; the first is for whoever had chosen that one beforehand. The "
            "intervals of AUC hold one at a time, not all together."
        ),
        types_table(run.features, looks or RunLooks.named(run.features["run"])),
    ]
    tables = [
        ReportTable("All metrics, models and cutoffs", run.directory / "all_results.csv"),
        ReportTable("Features of every type", run.directory / "features.csv"),
    ]
    if run.problems is not None:
        tables.append(ReportTable("Per problem", run.directory / "problem_results.csv", _problem_table(run.problems)))
    return Section(
        title="Which exploits will emerge?",
        anchor="emergence",
        lead=_lead(run),
        body_html=str(Markup("").join(body)),
        figures=run.figures,
        tables=tuple(tables),
    )


def _percent(value: object) -> str:
    return f"{100 * float(str(value)):g}%"


def _lead(run: EmergenceRun) -> str:
    p = run.summary["p_value_of_best_given_all_tried"]
    if not run.results["auc"].notna().any():
        return "Whether emergence can be predicted cannot be said from these runs."
    if p is None:
        return "Ranks exploit types by early signs of emergence; no test of chance was possible."
    if float(str(p)) <= SIGNIFICANT:
        return "Early measurements tell which exploits will emerge better than chance allows."
    power = _power(run)
    if power.empty or not (power["p_of_perfect"] <= SIGNIFICANT).any():
        return "These runs cannot show whether emergence can be predicted: even a perfect ranking could be chance."
    return "No early measurement is shown to tell which exploits will emerge; the power to show it is stated below."


def _power(run: EmergenceRun) -> pd.DataFrame:
    """The power table without cutoffs at which nothing can be tested."""
    found = run.summary.get("power")
    table: pd.DataFrame = pd.DataFrame(found if isinstance(found, list) else [])
    return table.dropna(subset=["p_of_perfect"]) if len(table) else table


def _power_text(run: EmergenceRun) -> Markup:
    """What could have been found, said wherever nothing was."""
    p = run.summary["p_value_of_best_given_all_tried"]
    power = _power(run)
    if p is None or float(str(p)) <= SIGNIFICANT or power.empty:
        return Markup("")
    names = {f"power_auc_{auc:g}": f"power at AUC {auc:g}" for auc in POWER_AUCS}
    shown = power.assign(checkpoints_seen=power["cutoff_idx"] + 1).drop(columns="cutoff_idx")
    shown = shown[["checkpoints_seen", *[c for c in shown if c != "checkpoints_seen"]]]
    text = (
        "What these runs could have shown: the p-value of a measure that ranks every type right, and the chance that "
        "one measure, chosen in advance, with the given true AUC reaches p = .05. Labels are permuted within runs, so "
        "a run in which all or none emerge adds nothing. Searching many measures lowers the power further."
    )
    headings = {"checkpoints_seen": "checkpoints seen", "emerging_by_run": "emerging, of types at risk",
                "p_of_perfect": "p of a perfect ranking"}  # fmt: skip
    linked = computed_from(shown, TYPES_TABLE, ["emerging_by_run", "p_of_perfect", *names])
    return paragraph(text) + html_table(linked, headings | names)


def _verdict(run: EmergenceRun) -> Markup:
    best, p = run.summary["best"], run.summary["p_value_of_best_given_all_tried"]
    if not isinstance(best, dict):
        note = run.notes[-1] if run.notes else "no cutoff has both emerging and other types"
        return paragraph(f"No AUC could be computed: {note}.")
    text = (
        f"Of {run.summary['n_cells_tried']} combinations the least likely by chance is {best['model']} of "
        f"{best['metric']} after "
        f"{best['cutoff_idx'] + 1} checkpoints: AUC {best['auc']:.2f}, 95% interval "
        f"{best['auc_lower']:.2f} to {best['auc_upper']:.2f}, from {best['n']} types."
    )
    if p is not None and best["p_value"] is not None:
        text += (
            f" Alone its p-value is {best['p_value']:.2g}; given that all combinations were tried, {float(str(p)):.2g}."
        )
    return Markup('<p>{} <a href="#{}">The types that it ranks.</a></p>').format(text, TYPES_TABLE)


def _best_table(results: pd.DataFrame) -> Markup:
    """The combination least likely by chance at each cutoff, with its own p-values."""
    known = results.dropna(subset=["auc"])
    if known.empty:
        return Markup("")
    order = ["p_value_grid", "auc"] if "p_value_grid" in known else ["auc"]
    ranked = known.sort_values(order, ascending=[True, False][-len(order) :], kind="stable")
    best = ranked.groupby("cutoff_idx").head(1).sort_values("cutoff_idx")
    shown = best.assign(
        checkpoints_seen=best["cutoff_idx"] + 1,
        interval=[f"{a:.2f} to {b:.2f}" for a, b in zip(best["auc_lower"], best["auc_upper"], strict=True)],
    )
    columns = ["checkpoints_seen", "metric", "model", "auc", "interval", "auc_within_run", "p_value", "p_value_grid"]
    columns = [c for c in columns if c in shown] + ["n", "n_positive"]
    return paragraph("The combination least likely by chance at each cutoff, with its own p-values:") + html_table(
        computed_from(shown[columns], TYPES_TABLE, columns[3:]), _NAMES
    )


def _problem_table(problems: pd.DataFrame) -> pd.DataFrame:
    columns = ["cutoff_idx", "model", "auc", "auc_lower", "auc_upper", "auc_within_run", "p_value", "n"]
    return computed_from(problems[columns], TYPES_TABLE, columns[2:])
