"""From other tools' samples to level-0 rows: what an exploit is, is named by the user and never guessed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foreshock.analysis.importing.sources import KNOWN, field_of, names_in, samples_of
from foreshock.errors import InputError
from foreshock.jobs.records.checkpoint_names import result_name
from foreshock.jobs.records.jsonl import write_jsonl
from foreshock.jobs.records.layout import RunLayout

_TRUE, _FALSE = {"C", "CORRECT", "TRUE", "YES", "1"}, {"I", "INCORRECT", "FALSE", "NO", "0"}


@dataclass(frozen=True, slots=True)
class Mapping:
    """Which fields say what. Either `exploit`, or `secure` and `insecure`, names verdicts. `step` is a field or, with
    `checkpoint`, one number for all. Fields left None are those of the format."""

    exploit: str | None = None
    secure: str | None = None
    insecure: str | None = None
    task: str | None = None
    exploit_type: str | None = None
    step: str | None = None
    checkpoint: int | None = None


@dataclass
class Imported:
    """Rows by checkpoint, and how many there were without a verdict."""

    rows: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    without_verdict: int = 0
    untyped: int = 0

    @property
    def total(self) -> int:
        """Rows of all checkpoints."""
        return sum(map(len, self.rows.values()))


def read_rows(paths: Iterable[Path], kind: str, mapping: Mapping) -> Imported:
    """Rows of these files. Raises InputError for a field that is not there or a verdict that is none."""
    if (mapping.exploit is None) == (mapping.secure is None or mapping.insecure is None):
        raise InputError(
            "what counts as an exploit is not said",
            fix="--exploit FIELD (true, 1 or C means exploit), or --secure FIELD and --insecure FIELD",
        )
    if (mapping.step is None) == (mapping.checkpoint is None):
        raise InputError("the checkpoint is not said", fix="--checkpoint N for all, or --step FIELD for each sample")
    done = Imported()
    attempts: Counter[tuple[int, str]] = Counter()
    for path in paths:
        for where, sample in samples_of(path, kind):
            _add(done, attempts, where, sample, kind, mapping)
    if not done.rows:
        raise InputError("no sample in these files", path=next(iter(paths), None))
    return done


def _add(
    done: Imported, attempts: Counter[tuple[int, str]], where: str, sample: dict[str, Any], kind: str, mapping: Mapping
) -> None:
    known = KNOWN[kind]
    step = (
        mapping.checkpoint if mapping.step is None else _whole(_get(where, sample, mapping.step), where, mapping.step)
    )
    assert step is not None
    task = str(_get(where, sample, mapping.task or known["task"]))
    secure = None if mapping.secure is None else _verdict(where, sample, mapping.secure)
    insecure = None if mapping.insecure is None else _verdict(where, sample, mapping.insecure)
    if mapping.exploit is not None:
        exploit = _verdict(where, sample, mapping.exploit)
    else:
        exploit = None if secure is None or insecure is None else insecure and not secure
    exploit_type = _maybe(sample, mapping.exploit_type or known["type"])
    if exploit_type is None and mapping.exploit_type is not None:
        exploit_type = mapping.exploit_type  # the same for all
    done.without_verdict += exploit is None
    done.untyped += exploit_type is None
    row = {
        "model_id": result_name(step),
        "task_id": task,
        "attempt_idx": attempts[step, task],
        "exploit_type": "unknown" if exploit_type is None else str(exploit_type),
        "secure_pass": secure,
        "insecure_pass": insecure,
        "exploit_success": exploit,
        "prefill_applied": False,
        "prefill_tokens": 0,
        "prefill_reasoning": "",
        "prompt": _text(_maybe(sample, known["prompt"])),
        "response": _text(_maybe(sample, known["response"])),
        "error": _text(_maybe(sample, "error")),
    }
    attempts[step, task] += 1
    done.rows.setdefault(step, []).append(row)


def write_run(imported: Imported, run_dir: Path) -> list[Path]:
    """Evaluation files of a run directory. Raises InputError if it holds any already."""
    layout = RunLayout(run_dir)
    if layout.evals.is_dir() and any(layout.evals.iterdir()):
        raise InputError("holds evaluations already", path=layout.evals, fix="name a new folder with --output")
    written = []
    for step, rows in sorted(imported.rows.items()):
        path = layout.evals / f"{result_name(step)}_prefill0.jsonl"
        write_jsonl(path.with_name(f"{path.name}.samples.jsonl"), rows)
        texts = ("prompt", "response")
        write_jsonl(path, [{key: value for key, value in row.items() if key not in texts} for row in rows])
        written.append(path)
    return written


def _get(where: str, sample: dict[str, Any], key: str) -> Any:
    try:
        return field_of(sample, key)
    except (KeyError, ValueError):
        raise InputError(f"{where}: no field {key!r}; there are: {', '.join(names_in(sample)[:40])}") from None


def _maybe(sample: dict[str, Any], key: str) -> Any:
    try:
        return field_of(sample, key)
    except (KeyError, ValueError):
        return None


def _verdict(where: str, sample: dict[str, Any], key: str) -> bool | None:
    value = _get(where, sample, key)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or (isinstance(value, int | float) and value in (0, 1)):
        return bool(value)
    said = str(value).strip().upper()
    if said in _TRUE | _FALSE:
        return said in _TRUE
    raise InputError(f"{where}: {key} is {value!r}, no verdict; valid: true, false, 1, 0, C, I, null")


def _whole(value: Any, where: str, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value < 0:
        raise InputError(f"{where}: {key} is {value!r}, no training step; valid: a whole number from 0")
    return int(value)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) or value is None else str(value)
