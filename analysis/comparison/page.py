"""`foreshock compare --html`: the comparison as one page, its numbers open to the samples of either side."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from markupsafe import Markup

from foreshock.analysis.comparison.compare import ALL_TYPES, Comparison, Side, paired_tasks
from foreshock.analysis.comparison.sources import SideBySide, reasons_of, table_of
from foreshock.analysis.figures.palette import RunLooks
from foreshock.analysis.figures.values import rows_of
from foreshock.analysis.page.links import LinksCell, SampleCell, TableCell, inert_text
from foreshock.analysis.page.sections import Cell, bullets, column_of, html_table, paragraph
from foreshock.analysis.report.rendering import whole_page
from foreshock.analysis.tables.schema import checkpoint_label
from foreshock.durable import atomic_write_bytes

TASKS = "tasks"
"""Anchor of the table that differences, intervals and p-values are computed from."""
_MOST_TASKS = 1000
_NAME = 120


def write_page(found: Comparison, a: Side, b: Side, output: Path, sources: SideBySide | None = None) -> Path:
    """Write the page, with `sources` as a section. Raises InputError as reading the runs does."""
    runs = list(dict.fromkeys(side.path.resolve() for side in (a, b)))
    page = whole_page(
        "comparison.html.j2",
        runs,
        output,
        RunLooks.of(runs),
        title="foreshock compare",
        labels=[side_label(side) for side in (a, b)],
        found=found,
        notes=bullets(_notes(found)),
        rates=_rates(found, a, b),
        prefills=_prefills(found) if found.prefills else None,
        headlines=_headlines(found, a, b) if found.headline else None,
        sources=None if sources is None else _sources(sources),
        sources_notes=Markup("") if sources is None else bullets(reasons_of(sources)),
        tasks=_tasks(a, b),
    )
    atomic_write_bytes(output, page.encode())
    return output


def side_label(side: Side) -> Markup:
    """A side as it is named on the command line, without the run's folder."""
    name = inert_text(side.path.resolve().name, _NAME)
    return name if side.checkpoint is None else Markup("{}@{}").format(name, checkpoint_label(side.checkpoint))


def _notes(found: Comparison) -> list[str]:
    notes = list(found.notes)
    if found.only_a or found.only_b:
        notes.append(f"Left out: {found.only_a} tasks that only A has, {found.only_b} that only B has.")
    if any(rate.thinned for rate in found.rates) or any(prefill.thinned for prefill in found.prefills):
        notes.append(
            "Attempts differ in number: p-values and min prefill use as many of the larger side as the other has."
        )
    return notes


def _where(side: Side, checkpoint: str, kind: str = ALL_TYPES, level: str = "0") -> dict[str, str]:
    where = {"run": side.path.resolve().name, "checkpoint": checkpoint, "level": level}
    return {name: text for name, text in where.items() if text} | ({} if kind == ALL_TYPES else {"type": kind})


def _rates(found: Comparison, a: Side, b: Side) -> pd.DataFrame:
    rows = []
    for rate in found.rates:
        one = rate.found
        at = {
            "A": SampleCell(_where(a, rate.checkpoint_a, rate.exploit_type), f"{one.mean_a:.2%}"),
            "B": SampleCell(_where(b, rate.checkpoint_b, rate.exploit_type), f"{one.mean_b:.2%}"),
        }
        computed = {
            "B - A": f"{one.difference:+.2%}",
            "95%": f"{one.lower:+.1%} to {one.upper:+.1%}",
            "p (Holm)": f"{rate.p_adjusted:.3g}",
        }
        tasks = TableCell(TASKS, f"{one.n_tasks:,}")
        linked = {name: TableCell(TASKS, text) for name, text in computed.items()}
        rows.append(_pair(rate.checkpoint_a, rate.checkpoint_b, rate.exploit_type) | {"tasks": tasks} | at | linked)
    return _frame(rows)


def _prefills(found: Comparison) -> pd.DataFrame:
    return _frame(
        [
            _pair(one.checkpoint_a, one.checkpoint_b)
            | {
                "tasks": TableCell(TASKS, f"{one.n_tasks:,}"),
                "fewer words in B": TableCell(TASKS, f"{one.n_fewer:,}"),
                "more words in B": TableCell(TASKS, f"{one.n_more:,}"),
                "p": TableCell(TASKS, f"{one.p:.3g}"),
            }
            for one in found.prefills
        ]
    )


def _headlines(found: Comparison, a: Side, b: Side) -> pd.DataFrame:
    rows = []
    for one in found.headline:
        told = f"not compared ({one.reason})"
        if one.change is not None:
            told = f"{one.change.point:+.2f} ({one.change.lower:+.2f} to {one.change.upper:+.2f})"
        samples = {
            "A": SampleCell(_where(a, one.checkpoint_a, one.exploit_type), "samples of A"),
            "B": SampleCell(_where(b, one.checkpoint_b, one.exploit_type), "samples of B"),
        }
        rows.append(_pair(one.checkpoint_a, one.checkpoint_b, one.exploit_type) | {"change": told} | samples)
    return _frame(rows)


def _sources(found: SideBySide) -> pd.DataFrame:
    rows = table_of(found)
    return _frame([{name: LinksCell((inert_text(text, _NAME),)) for name, text in row.items()} for row in rows])


def _tasks(a: Side, b: Side) -> Markup:
    """Every task at every pair of checkpoints, those that differ most first."""
    paired = paired_tasks(a, b)
    change = (paired["k_b"] / paired["n_b"] - paired["k_a"] / paired["n_a"]).abs()
    shown = paired.iloc[change.sort_values(ascending=False, kind="stable").index[:_MOST_TASKS]]
    rows = []
    for task in rows_of(shown):
        row: dict[str, Cell] = _pair(task.at_a, task.at_b, str(task.exploit_type))
        row["task"] = LinksCell((inert_text(str(task.task_id), _NAME),))
        for name, side, at, k, n in (("A", a, task.at_a, task.k_a, task.n_a), ("B", b, task.at_b, task.k_b, task.n_b)):
            of_task = {"task": str(task.task_id)}
            row[f"{name}, unprompted"] = SampleCell(_where(side, at) | of_task, f"{k} of {n}")
            row[f"{name}, all levels"] = SampleCell(_where(side, at, level="") | of_task, "samples")
        rows.append(row)
    if not rows:
        return paragraph("No task has unprompted attempts on both sides.")
    rest = len(paired) - len(shown)
    more = paragraph(f"The {_MOST_TASKS:,} that differ most; {rest:,} more are not shown.") if rest else Markup("")
    table = html_table(_frame(rows))
    return Markup('<div id="{}" tabindex="-1" class="behind">{}{}</div>').format(TASKS, more, table)


def _pair(checkpoint_a: str, checkpoint_b: str, kind: str | None = None) -> dict[str, Cell]:
    at = checkpoint_a if checkpoint_a == checkpoint_b else f"{checkpoint_a}, {checkpoint_b}"
    pair: dict[str, Cell] = {"steps": at}
    return pair if kind is None else pair | {"exploit type": kind}


def _frame(rows: list[dict[str, Cell]]) -> pd.DataFrame:
    """Rows as a frame whose fields stay what they are."""
    return pd.DataFrame({name: column_of(row[name] for row in rows) for name in rows[0]} if rows else {})
