"""What a run says about itself: config.yaml, metadata.json, status.json.

These files may come from another tool or be missing, so every field is optional and an unreadable file becomes a note
in the report, never a failure to report.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from foreshock.analysis.tables.channel import ANSWER
from foreshock.errors import InputError
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.problem_checks import check_summary
from foreshock.jobs.records.ran_records import all_ran, planned_by
from foreshock.ran import Ran, deviations


@dataclass(frozen=True, slots=True)
class Provenance:
    """The three documents as dictionaries (empty when absent) and notes on what could not be read.

    `reported`: what the process that writes the report knows of the run's state, which its status.json cannot say
    before that process ends. `problems`: the record of the check of the problems; None if the run has none.
    """

    config: dict[str, Any]
    metadata: dict[str, Any]
    status: dict[str, Any]
    notes: tuple[str, ...]
    reported: str | None = None
    problems: dict[str, Any] | None = None
    ran: tuple[str, ...] = ()
    """What computed the shards, as each worker measured it: a line for every different place."""
    deviations: tuple[str, ...] = ()
    """Ways in which that was not what the run was planned for."""

    @property
    def state(self) -> str | None:
        """The run's state now; None if nobody recorded one."""
        recorded = _status_text(self.status)
        if self.reported is None or recorded is None:
            return recorded
        return self.reported if self.status.get("status") == "running" else recorded

    def _duration(self) -> str | None:
        seconds = self.status.get("duration_seconds", self.status.get("duration"))
        started = self.status.get("start_time")
        if seconds is None and self.reported is not None and isinstance(started, str):
            try:
                passed = (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds()
            except (ValueError, TypeError):
                return None
            return f"{_duration_text(passed)} up to this report"
        return _duration_text(seconds)

    def facts(self) -> list[tuple[str, str]]:
        """(name, value) pairs for a reader; only what is known."""
        git = _mapping(self.metadata.get("git"))
        commit = git.get("commit") or self.metadata.get("git_commit")
        dirty = git.get("dirty", self.metadata.get("git_dirty"))
        facts = [
            ("Command", self.config.get("command")),
            ("Status", self.state),
            ("Started", self.status.get("start_time")),
            ("Duration", self._duration()),
            ("Checkpoints from", self.config.get("checkpoint_dir")),
            ("Prefill source", self.config.get("prefill_source")),
            ("Prefill levels", self._levels()),
            ("Problems", _join(self.config.get("dataset"), self.config.get("split"))),
            ("Problems checked", check_summary(self.problems or {})),
            ("Temperature", self.config.get("temperature")),
            ("Code", None if not commit else f"{str(commit)[:12]}{' with local changes' if dirty else ''}"),
            ("Python", _first_word(self.metadata.get("python") or self.metadata.get("python_version"))),
            (
                "Machine",
                _join(self.metadata.get("host") or self.metadata.get("hostname"), self.metadata.get("platform")),
            ),
            (
                "Image",
                None if self.ran else self.metadata.get("image_digest") or self.metadata.get("container_image_digest"),
            ),
        ]
        if self.ran:  # what the submitter was in says nothing of the workers
            facts = [fact for fact in facts if fact[0] != "Image"]
        facts += [("Computed by", text) for text in self.ran]
        facts += [("Not as planned", text) for text in self.deviations]
        facts += _prompting_facts(_mapping(self.metadata.get("prompting")))
        return [(name, str(value)) for name, value in facts if value not in (None, "", [])]

    def forced(self) -> str:
        """What the prefills are the beginning of, for sentences."""
        return "the exploit's answer" if self._prefill().get("channel") == ANSWER else "exploit reasoning"

    def _levels(self) -> str | None:
        """What levels count, where it is not the reasoning."""
        prefill = self._prefill()
        if prefill.get("channel") != ANSWER:
            return None
        given = "its source's reasoning" if prefill.get("before") == "source" else "empty reasoning"
        return f"words of the answer, after {given}: they see hacks that no reasoning announces"

    def _prefill(self) -> dict[str, Any]:
        return _mapping(_mapping(self.config.get("config")).get("prefill"))

    def planned_cells(self) -> set[tuple[float, int]] | None:
        """(checkpoint, level) pairs that config.yaml asked for; None where it does not list them."""
        levels = _numbers(self.config.get("prefill_tokens_sweep"))
        steps = _numbers(self.config.get("checkpoints"))
        if not levels or not steps:
            return None
        return {(step, int(level)) for step in steps for level in levels}


def read_provenance(run_dir: Path, reported: str | None = None) -> Provenance:
    """Read the three files of a run, as far as they are there; `reported` as in `Provenance`."""
    layout = RunLayout(run_dir)
    notes: list[str] = []
    config, metadata, status = (_read(path, notes) for path in (layout.config, layout.metadata, layout.status))
    problems = _read(layout.problem_checks, notes) if layout.problem_checks.is_file() else None
    ran = all_ran(layout)
    try:
        planned = planned_by(PlanFile.read(layout).settings) if ran else None
    except InputError:
        planned = None
    found = dict.fromkeys(text for one in ran for text in deviations(planned, one)) if planned is not None else ()
    lines = tuple(map(_ran_text, ran))
    return Provenance(config, metadata, status, tuple(notes), reported, problems, lines, tuple(found))


def _ran_text(ran: Ran) -> str:
    """One place on one line."""
    packages = [f"{name} {version}" for name, version in ran.packages.items() if version]
    cards = [f"{count} x {name}" if count > 1 else name for name, count in Counter(ran.gpus).items()]
    image = ran.image
    where = None if image is None else f"image {image.content or image.digest}"
    parts = [
        f"commit {ran.commit[:12]}{'+changed' if '+' in ran.commit else ''}" if ran.commit else None,
        where,
        *packages,
        *(cards or ["no GPU"]),
        f"driver {ran.driver}" if ran.driver else None,
        f"kernel {ran.kernel}",
        f"sandbox {ran.sandbox_tier}" if ran.sandbox_tier else None,
    ]
    return ", ".join(part for part in parts if part)


def _read(path: Path, notes: list[str]) -> dict[str, Any]:
    if not path.is_file():
        notes.append(f"{path.name} is missing")
        return {}
    try:
        text = path.read_text()
        value = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as error:
        notes.append(f"{path.name} could not be read: {str(error).splitlines()[0]}")
        return {}
    if not isinstance(value, dict):
        notes.append(f"{path.name} does not hold named values")
        return {}
    return value


def _prompting_facts(found: dict[str, Any]) -> list[tuple[str, Any]]:
    """How the model was asked, and what ended its turn; empty for runs that did not record it."""
    if not found:
        return []
    arguments = ", ".join(f"{name}: {value!r}" for name, value in _mapping(found.get("template_args")).items())
    opening, source = found.get("opening"), found.get("derived_from")
    section = f"{opening!r} to {found.get('closing')!r}" if opening is not None else "no section"
    stops = [_token(item) for item in _rows(found.get("stop_tokens"))]
    for late in _rows(found.get("stop_tokens_in_the_answer")):
        stops += [f"{_token(item)} after {late.get('after')!r}" for item in _rows(late.get("tokens"))]
    too_long, context = found.get("too_long"), found.get("context")
    length = f"longest {found.get('longest_prompt')} tokens" + (f" of a context of {context}" if context else "")
    if too_long:
        length += f"; {too_long} prompts (task and level) do not fit and were left out"
    return [
        ("Prompt format", _join(found.get("format"), arguments)),
        ("System message", found.get("system")),
        ("Instructions", found.get("instructions")),
        ("Reasoning", _join(section, f"from {source}" if source else None)),
        ("Answer", found.get("answer")),
        ("Ends at", ", ".join(stops)),
        ("Prompts", length),
    ]


def _rows(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _token(item: dict[str, Any]) -> str:
    return f"{item.get('token')} ({item.get('id')})"


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _numbers(value: object) -> list[float]:
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    numbers = []
    for part in parts:
        text = str(part).strip().removeprefix("checkpoint-")
        if text == "final":
            numbers.append(float("inf"))
        elif text.isdigit():
            numbers.append(float(text))
        else:
            return []
    return numbers


def _status_text(status: dict[str, Any]) -> str | None:
    state, reason = status.get("status"), status.get("exit_reason")
    if state is None:
        return None
    return str(state) if reason in (None, "", "success", "exit code 0") else f"{state} ({reason})"


def _duration_text(value: object) -> str | None:
    if not isinstance(value, (int, float)):
        return None
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{value:.0f} s"


def _join(*parts: object) -> str | None:
    return ", ".join(str(part) for part in parts if part) or None


def _first_word(value: object) -> str | None:
    return str(value).split()[0] if value else None
