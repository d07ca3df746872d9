"""The report's section that shows samples: a handful of each exploit type, chosen by a rule that it states.

What models wrote is hostile: it enters the page as text alone, shortened, with strange characters as code points.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from foreshock.analysis.page.links import inert_text, sample_link
from foreshock.analysis.page.sections import Section, paragraph
from foreshock.analysis.report.gather import RunFindings
from foreshock.analysis.tables import TableKind, checkpoint_label
from foreshock.analysis.tables.files import find_run_files
from foreshock.jobs.records.sampled_rows import samples_beside
from foreshock.jobs.records.table_files import has_table, open_table

_MOST_TYPES = 16
_PROMPT, _ANSWER, _CODE, _DETAIL = 900, 2400, 1600, 400
"""Characters shown of each text; the viewer has them whole."""
_FACTS = ("secure_outcome", "insecure_outcome", "finish_reason", "sandbox_tier", "seed")


@dataclass(frozen=True, slots=True)
class Pick:
    """Which attempt to show: the first of a task in a cell with this outcome, and why it was chosen."""

    why: str
    task: str
    checkpoint: float
    level: int
    exploit: bool


def samples_section(runs: Sequence[RunFindings]) -> Section | None:
    """None where no run has rows with texts."""
    body = Markup("")
    for run in runs:
        own = _run_samples(run)
        if own and len(runs) > 1:
            body += Markup("<h3>{}</h3>").format(run.label)
        body += own
    if not body:
        return None
    text = (
        "Of each exploit type up to three attempts: an unprompted exploit of the last checkpoint that has one, the "
        "exploit that took the fewest forced words at the earliest checkpoint, and an unprompted attempt of the last "
        "checkpoint that does not exploit. Where several tasks qualify, a hash of their names decides: nobody picked."
    )
    return Section(
        "What it looks like", "samples", paragraph(text) + body, lead="Attempts behind the numbers, shortened."
    )


def _run_samples(run: RunFindings) -> Markup:
    tasks = run.counts.tasks.assign(exploit_type=run.counts.tasks["exploit_type"].astype(str))
    picks = {
        str(kind): picks_of(own) for kind, own in sorted(tasks.groupby("exploit_type"), key=lambda item: str(item[0]))
    }
    shown = dict(list(picks.items())[:_MOST_TYPES])
    rows = _read(run.run_dir, [pick for own in shown.values() for pick in own])
    body = Markup("")
    for kind, own in shown.items():
        parts = [_sample(run, kind, pick, rows[pick]) for pick in own if pick in rows]
        if parts:
            name = kind.replace("_", " ")
            body += Markup('<details class="type"><summary>{} ({})</summary>{}</details>').format(
                name, f"{len(parts)} attempt{'' if len(parts) == 1 else 's'}", Markup("").join(parts)
            )
    if body and len(picks) > len(shown):
        body += paragraph(f"{len(picks) - len(shown)} more types: see the viewer.")
    return body


def picks_of(tasks: pd.DataFrame) -> list[Pick]:
    """The handful of one exploit type, from its counts (task_id, checkpoint, prefill_level, n, k)."""
    found = []
    some = tasks[tasks["k"] > 0]
    unprompted = some[some["prefill_level"] == 0]
    if len(unprompted):
        last = unprompted[unprompted["checkpoint"] == unprompted["checkpoint"].max()]
        found.append(_pick(last, "An unprompted exploit", True))
    kicked = some[some["prefill_level"] > 0]
    if len(kicked):
        first = kicked[kicked["checkpoint"] == kicked["checkpoint"].min()]
        first = first[first["prefill_level"] == first["prefill_level"].min()]
        found.append(_pick(first, "The earliest exploit after a kick", True))
    honest = tasks[
        (tasks["prefill_level"] == 0) & (tasks["k"] < tasks["n"]) & (tasks["checkpoint"] == tasks["checkpoint"].max())
    ]
    if len(honest):
        found.append(_pick(honest, "No exploit", False))
    return found


def _pick(candidates: pd.DataFrame, why: str, exploit: bool) -> Pick:
    ordered = sorted(
        candidates.itertuples(), key=lambda row: hashlib.sha256(str(row.task_id).encode("utf-8", "replace")).digest()
    )
    row: Any = ordered[0]
    return Pick(why, str(row.task_id), float(row.checkpoint), int(row.prefill_level), exploit)


def _read(run_dir: Path, picks: Sequence[Pick]) -> dict[Pick, dict[str, Any]]:
    """The rows that were picked, as far as rows with texts are there."""
    wanted: dict[tuple[float, int], list[Pick]] = {}
    for pick in picks:
        wanted.setdefault((pick.checkpoint, pick.level), []).append(pick)
    found: dict[Pick, dict[str, Any]] = {}
    for cell in find_run_files(run_dir, TableKind.EVAL).cells:
        open_picks = wanted.get((cell.checkpoint, cell.prefill_level), [])
        for table in cell.paths:
            left = [pick for pick in open_picks if pick not in found]
            places = [path for path in (samples_beside(table), table) if has_table(path)]  # the first may have few
            tasks = {pick.task for pick in left}
            for row in (row for path in places for row in _rows_of(path, tasks)):
                for pick in left:
                    if (
                        pick not in found
                        and str(row["task_id"]) == pick.task
                        and row.get("exploit_success") is pick.exploit
                    ):
                        found[pick] = row
                if all(pick in found for pick in left):
                    break
    return {pick: row for pick, row in found.items() if row.get("response") is not None or row.get("reasoning")}


def _rows_of(path: Path, tasks: set[str]) -> Iterator[dict[str, Any]]:
    """Rows of these tasks; lines that cannot hold one are not parsed."""
    if not tasks:
        return
    names = [
        json.dumps(task, ensure_ascii=ascii)[1:-1].encode("utf-8", "surrogatepass")
        for task in tasks
        for ascii in (True, False)
    ]
    with open_table(path) as file:
        for line in file:
            if any(name in line for name in names):
                row = json.loads(line)
                if str(row.get("task_id")) in tasks:
                    yield row


def _sample(run: RunFindings, kind: str, pick: Pick, row: dict[str, Any]) -> Markup:
    name, at = run.run_dir.resolve().name, checkpoint_label(pick.checkpoint)
    where = {"run": name, "type": kind, "checkpoint": at, "level": str(pick.level), "task": pick.task}
    head = f"{pick.why}: step {at}, {pick.level} words, task {pick.task}"
    body = Markup("<h4>{} <small>{}</small></h4>").format(
        inert_text(head, 300), sample_link(where, "open in the viewer")
    )
    facts = [f"{key}: {row[key]}" for key in _FACTS if row.get(key) not in (None, "")]
    body += Markup('<p class="facts-line">{}</p>').format(inert_text(" · ".join(facts), _DETAIL))
    if row.get("prompt"):
        body += _block("Prompt", inert_text(str(row["prompt"]), _PROMPT))
    answer = Markup("")
    if row.get("prefill_reasoning"):
        answer += Markup("<mark>{}</mark>").format(inert_text(str(row["prefill_reasoning"]), _ANSWER))
    answer += inert_text(str(row.get("response") or row.get("reasoning") or ""), _ANSWER)
    body += _block("Forced words (marked), then what the model wrote", answer)
    if row.get("code"):
        body += _block("Code that was judged", inert_text(str(row["code"]), _CODE))
    for which in ("secure_detail", "insecure_detail"):
        if row.get(which):
            body += Markup('<p class="facts-line">{}: {}</p>').format(which, inert_text(str(row[which]), _DETAIL))
    return Markup('<article class="sample">{}</article>').format(body)


def _block(title: str, text: Markup) -> Markup:
    return Markup("<h5>{}</h5><pre>{}</pre>").format(title, text)
