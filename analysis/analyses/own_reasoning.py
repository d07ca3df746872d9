"""How early each checkpoint's own reasoning carries the exploit, of runs that cut it short."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foreshock.analysis.analyses.analysis import Analysis, Request
from foreshock.analysis.analyses.per_run import any_run_has, table_of_runs
from foreshock.jobs.records.layout import RunLayout

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from foreshock.analysis.page.sections import Section


def _folders(run: RunLayout) -> tuple[Path, ...]:
    return (run.own_reasoning / "continue", run.own_reasoning / "answer")


def _applies(request: Request) -> bool:
    return any_run_has(request, _folders)


def _find(request: Request) -> pd.DataFrame:
    from foreshock.analysis.own_reasoning.rates import load_own_reasoning, summarise

    return table_of_runs(request, _folders, lambda run: summarise(load_own_reasoning(run)))


def _show(request: Request, table: pd.DataFrame) -> Section:
    from foreshock.analysis.figures import write_csv
    from foreshock.analysis.own_reasoning.rates import ALL
    from foreshock.analysis.page.sections import ReportTable, Section, html_table, paragraph
    from foreshock.analysis.tables import checkpoint_label

    csv = write_csv(table, request.folder / "own_reasoning.csv")
    shown = table[table["exploit_type"] == ALL].copy()
    shown["rate"] = [_rate(*values) for values in shown[["rate", "lower95", "upper95"]].itertuples(index=False)]
    wide = shown.pivot(
        index=["run", "then", "checkpoint", "own_exploit_success"], columns="fraction", values="rate"
    ).reset_index()
    wide["checkpoint"] = wide["checkpoint"].map(checkpoint_label)
    wide["own_exploit_success"] = wide["own_exploit_success"].map({True: "exploit", False: "other"})
    wide.columns = [f"{name:.0%}" if isinstance(name, float) else str(name) for name in wide.columns]
    unread = int(table.loc[table["exploit_type"] == ALL, "unread"].sum())
    return Section(
        title="Own reasoning, cut short",
        anchor="own-reasoning",
        lead="How often a checkpoint exploits when it goes on from the first part of its own reasoning.",
        body_html=paragraph(
            "Unprompted reasoning that had ended in an exploit, and other, cut at fractions of its words, forced on "
            "the checkpoint that wrote it and sampled anew; rates are means over tasks with 95% limits, at 0% with "
            "nothing forced, on the same tasks. `continue`: it reasons on by itself; `answer`: its reasoning is ended "
            "at the cut. Where the first row rises above the second early, the beginning of the reasoning carries the "
            "exploit. "
            f"Continuations without code to judge ({unread}) are in no rate."
        )
        + html_table(wide, {"own_exploit_success": "it had ended in", "then": "after the cut"}),
        tables=(ReportTable("Exploit rates after fractions of own reasoning", csv),),
    )


def _rate(rate: float, lower: float, upper: float) -> str | None:
    return None if rate != rate else f"{rate:.0%} ({lower:.0%} to {upper:.0%})"


ANALYSIS = Analysis(
    "own_reasoning",
    "rates after the first part of own reasoning",
    "own reasoning, cut short, not shown",
    _find,
    _show,
    _applies,
)
