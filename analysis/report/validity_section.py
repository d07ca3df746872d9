"""The report's second part: what to know before believing a number, of each run, as fine or as a warning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from foreshock.analysis.page.links import sample_link
from foreshock.analysis.page.sections import Part, Section
from foreshock.analysis.report.gather import RunFindings
from foreshock.analysis.report.runs_section import code_notes
from foreshock.analysis.tables.schema import checkpoint_label
from foreshock.jobs.records.problem_checks import check_lines
from foreshock.jobs.records.verdicts import SandboxTier

_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: `fine` or not, in a sentence, with details."""

    name: str
    fine: bool
    said: Markup
    details: tuple[Markup, ...] = ()


def validity_section(runs: Sequence[RunFindings], behaviour: Section | None) -> Section:
    """Every check of every run; `behaviour` is the panel on the checkpoints, which has a section of its own below."""
    body = Markup("")
    found = 0
    for run in runs:
        checks = _checks(run)
        found += sum(not check.fine for check in checks)
        if len(runs) > 1:
            body += Markup("<h3>{}</h3>").format(run.label)
        body += Markup('<ul class="checks">{}</ul>').format(Markup("").join(map(_item, checks)))
    panel = behaviour is not None and behaviour.warning
    found += panel
    lead = "Nothing found that speaks against these numbers." if not found else f"{found} findings: read them first."
    if behaviour is not None:
        mark = "warn" if panel else "fine"
        body += Markup('<ul class="checks"><li class="{}"><b>Behaviour of the checkpoints</b> {} ').format(
            mark, behaviour.lead
        )
        body += Markup('<a href="#{}">the panel</a></li></ul>').format(behaviour.anchor)
    return Section("Can it be believed?", "validity", body, lead=lead, part=Part.VALIDITY, warning=bool(found))


def _item(check: Check) -> Markup:
    more = Markup("")
    if check.details:
        rows = Markup("").join(Markup("<li>{}</li>").format(line) for line in check.details)
        more = Markup("<ul>{}</ul>").format(rows)
    return Markup('<li class="{}"><b>{}</b> {}{}</li>').format(
        "fine" if check.fine else "warn", check.name, check.said, more
    )


def _checks(run: RunFindings) -> list[Check]:
    return [_status(run), _cells(run), _rows(run), _code(run), _sandbox(run), _problems(run), *_files(run)]


def _status(run: RunFindings) -> Check:
    text = run.provenance.state
    fine = text is None or text.startswith("completed")
    return Check("Run", fine, escape("not recorded" if text is None else text))


def _cells(run: RunFindings) -> Check:
    report = run.counts.report
    details = []
    if run.missing:
        named = [f"{checkpoint_label(step)} at {level} words" for step, level in run.missing[:_SHOWN]]
        rest = f" and {len(run.missing) - _SHOWN} more" if len(run.missing) > _SHOWN else ""
        n = len(run.missing)
        details.append(escape(f"{n} cells are missing (checkpoint at level): {'; '.join(named)}{rest}."))
    if report.empty_cells:
        details.append(escape(f"{len(report.empty_cells)} cells have a file without a usable row."))
    skipped = run.summary.get("n_tasks_without_prefill", 0)
    if skipped:
        details.append(escape(f"{skipped} tasks have no prefill and were measured at level 0 only."))
    said = "every planned cell is there" if not details else "not everything was measured"
    return Check("Cells", not details, escape(said), tuple(details))


def _rows(run: RunFindings) -> Check:
    report = run.counts.report
    details = []
    if report.errors:
        worst = max(report.cells, key=lambda cell: cell.errors)
        details.append(
            escape(
                f"{report.errors:,} attempts failed to generate or verify and are left out, most of them "
                f"({worst.errors:,}) at checkpoint {checkpoint_label(worst.checkpoint)} level {worst.prefill_level}."
            )
        )
    if report.nulls:
        where = {"run": run.run_dir.resolve().name, "verdict": "none"}
        text = f"{report.nulls:,} attempts have no verdict and are left out."
        details.append(Markup("{} {}").format(text, sample_link(where, "samples")))
    if report.duplicates:
        details.append(escape(f"{report.duplicates:,} rows were byte-identical repeats and were dropped."))
    said = f"{report.rows:,} rows used" + ("" if details else ", none left out")
    return Check("Rows", not details, escape(said), tuple(details))


def _code(run: RunFindings) -> Check:
    notes = code_notes(run)
    said = "code was found in every response" if not notes else "not every response could be read"
    return Check("Responses", not notes, escape(said), tuple(map(escape, notes)))


def _sandbox(run: RunFindings) -> Check:
    tiers = run.counts.report.distinct("sandbox_tier")
    if not tiers:
        return Check("Sandbox", False, escape("not recorded by the tool that made these rows"))
    weak = sorted(tier for tier in tiers if tier != SandboxTier.FULL)
    details = []
    if SandboxTier.RLIMITS_ONLY in tiers:
        details.append(escape("Some attempts ran with the weakest sandbox (resource limits only)."))
    said = f"every verdict from the {SandboxTier.FULL} sandbox" if not weak else f"tiers: {', '.join(sorted(tiers))}"
    return Check("Sandbox", not weak, escape(said), tuple(details))


def _problems(run: RunFindings) -> Check:
    record = run.provenance.problems
    if not record:
        return Check("Problems", False, escape("no record that they were checked (`foreshock check`)"))
    lines = check_lines(record)
    if lines:
        return Check("Problems", False, escape("checked, with findings"), tuple(map(escape, lines)))
    return Check("Problems", True, escape("their own solutions and exploits are judged as they should be"))


def _files(run: RunFindings) -> list[Check]:
    notes = run.provenance.notes
    return [Check("Files about the run", False, escape("; ".join(notes)))] if notes else []
