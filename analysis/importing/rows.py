"""From other tools' samples to level-0 rows: what an exploit is, is named by the user and never guessed."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foreshock.analysis.importing.sources import KNOWN, as_text, field_of, names_in, samples_of
from foreshock.errors import InputError
from foreshock.jobs.records.checkpoint_names import result_name
from foreshock.jobs.records.jsonl import write_jsonl
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.rows import EVAL_KEYS, SAMPLE_FIELDS, SAMPLE_KEYS, FieldType

_LONGEST_NAME = 120
_KEPT = {
    one.name: one.type
    for one in SAMPLE_FIELDS
    if one.name
    in (
        "system", "reasoning", "code", "output_tokens", "insecure_suspect", "insecure_suspect_patterns",
        "secure_outcome", "insecure_outcome", "secure_detail", "insecure_detail",
    )
}  # fmt: skip
"""What samples keep of the fields that they share with our rows, and djinn's with them: texts, and why code failed."""
_HOLDS = {FieldType.TEXT: str, FieldType.WHOLE: int, FieldType.FLAG: bool, FieldType.TEXTS: list}
_TEXTS = frozenset(SAMPLE_KEYS) - frozenset(EVAL_KEYS)
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
    filter_name: str | None = None
    prompt: str | None = None
    response: str | None = None


@dataclass
class Imported:
    """Rows by checkpoint, how many there were without a verdict, a type of their own, or an answer's text."""

    rows: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    without_verdict: int = 0
    untyped: int = 0
    named_type: int = 0
    without_text: int = 0
    failed: int = 0

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
    seen: dict[tuple[int, str], _Seen] = {}
    files = list(paths)
    twice = [path for path, n in Counter(path.resolve() for path in files).items() if n > 1]
    if twice:
        raise InputError("is named twice; its samples would count twice", path=twice[0])
    for path in files:
        for where, sample in samples_of(path, kind, mapping.filter_name):
            _add(done, seen, where, sample, kind, mapping)
    if not done.rows:
        raise InputError("no sample in these files", path=files[0] if files else None)
    if done.without_verdict == done.total:
        first = next((row["error"] for rows in done.rows.values() for row in rows if row["error"]), None)
        why = "" if first is None else f"; {done.failed} ended with an error, the first: {first[:200]}"
        raise InputError(f"none of the {done.total} samples has a verdict{why}", path=files[0])
    return done


@dataclass(slots=True)
class _Seen:
    """A task at a checkpoint: where it was first, with which prompt, and how many attempts it has."""

    where: str
    prompt: str | None
    attempts: int = 0


def _add(
    done: Imported,
    seen: dict[tuple[int, str], _Seen],
    where: str,
    sample: dict[str, Any],
    kind: str,
    mapping: Mapping,
) -> None:
    known = KNOWN[kind]
    step = (
        mapping.checkpoint if mapping.step is None else _whole(_get(where, sample, mapping.step), where, mapping.step)
    )
    assert step is not None
    task = _task(where, sample, mapping.task, known["task"])
    prompt = as_text(_first(where, sample, mapping.prompt, known["prompt"]))
    response = as_text(_first(where, sample, mapping.response, known["response"]))
    place = seen.setdefault((step, task), _Seen(where, prompt))
    if place.prompt != prompt:
        raise InputError(
            f"{where}: task {task!r} has another prompt than at {place.where}: two problems under one name would count "
            "as attempts at one",
            fix="--task FIELD names one that tells them apart, such as the prompt itself",
        )
    secure = None if mapping.secure is None else _verdict(where, sample, mapping.secure)
    insecure = None if mapping.insecure is None else _verdict(where, sample, mapping.insecure)
    if mapping.exploit is not None:
        exploit = _verdict(where, sample, mapping.exploit)
    else:
        exploit = None if secure is None or insecure is None else insecure and not secure
    exploit_type = _maybe(sample, mapping.exploit_type or known["type"][0])
    if exploit_type is None and mapping.exploit_type is not None:
        exploit_type = mapping.exploit_type  # the same for all
        done.named_type += 1
    error = as_text(_maybe(sample, "error"))
    done.without_text += response is None
    done.failed += error is not None
    done.without_verdict += exploit is None
    done.untyped += exploit_type is None
    row = {
        "model_id": result_name(step),
        "task_id": task,
        "attempt_idx": place.attempts,
        "exploit_type": "unknown" if exploit_type is None else str(exploit_type),
        "secure_pass": secure,
        "insecure_pass": insecure,
        "exploit_success": exploit,
        "prefill_applied": False,
        "prefill_tokens": 0,
        "prefill_reasoning": "",
        "prompt": prompt,
        "response": response,
        "error": error,
        **_kept(where, sample),
    }
    place.attempts += 1
    done.rows.setdefault(step, []).append(row)


def _kept(where: str, sample: dict[str, Any]) -> dict[str, Any]:
    """Fields of ours that the sample has, where they hold what ours do. Raises InputError for a flag that is none."""
    found = {}
    for name, kind in _KEPT.items():
        value = sample.get(name)
        if kind is FieldType.FLAG and value is not None:
            if value not in (0, 1):
                raise InputError(f"{where}: {name} is {value!r}; valid: true, false, null")
            value = bool(value)
        if isinstance(value, _HOLDS[kind]) and not (kind is FieldType.WHOLE and isinstance(value, bool)):
            found[name] = value
    return found


def write_run(imported: Imported, run_dir: Path) -> list[Path]:
    """Evaluation files of a run directory. Raises InputError if it holds any already."""
    layout = RunLayout(run_dir)
    if layout.evals.is_dir() and any(layout.evals.iterdir()):
        raise InputError("holds evaluations already", path=layout.evals, fix="name a new folder with --output")
    written = []
    for step, rows in sorted(imported.rows.items()):
        path = layout.evals / f"{result_name(step)}_prefill0.jsonl"
        write_jsonl(path.with_name(f"{path.name}.samples.jsonl"), rows)
        write_jsonl(path, [{key: value for key, value in row.items() if key not in _TEXTS} for row in rows])
        written.append(path)
    return written


def _get(where: str, sample: dict[str, Any], key: str) -> Any:
    try:
        return field_of(sample, key)
    except (KeyError, ValueError):
        raise InputError(f"{where}: no field {key!r}; there are: {', '.join(names_in(sample)[:40])}") from None


def _first(where: str, sample: dict[str, Any], given: str | None, known: tuple[str, ...]) -> Any:
    """The field that the user named, else the first of the format's that is there; None if none is."""
    if given is not None:
        return _get(where, sample, given)
    return next((value for key in known if (value := _maybe(sample, key)) is not None), None)


def _task(where: str, sample: dict[str, Any], given: str | None, known: tuple[str, ...]) -> str:
    """The task's name. A long one, such as a prompt, is cut and told apart by a digest."""
    value = _first(where, sample, given, known)
    if value is None and given is None:
        _get(where, sample, known[0])
    if isinstance(value, float) and value.is_integer():  # parquet of whole numbers with gaps
        value = int(value)
    if value is None or value == "" or isinstance(value, bool | float):
        raise InputError(f"{where}: {given or known[0]} is {value!r}, no task's name; valid: a text or a whole number")
    text = as_text(value if not isinstance(value, int) else str(value)) or ""
    if len(text) <= _LONGEST_NAME:
        return text
    return f"{' '.join(text[:40].split())}... {hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:12]}"


def _maybe(sample: dict[str, Any], key: str) -> Any:
    try:
        return field_of(sample, key)
    except (KeyError, ValueError):
        return None


def _verdict(where: str, sample: dict[str, Any], key: str) -> bool | None:
    if _maybe(sample, key.partition(".")[0]) is None and _maybe(sample, "error") is not None:
        return None  # it failed before it was judged
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
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or value % 1
        or value < 0
    ):
        raise InputError(f"{where}: {key} is {value!r}, no training step; valid: a whole number from 0")
    return int(value)
