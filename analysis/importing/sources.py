"""Samples of other tools' logs as plain dictionaries, one per sampled answer, read with what the tools define."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import parse_line, read_maybe_gzip
from foreshock.jobs.records.table_files import has_table

Sample = tuple[str, dict[str, Any]]
"""Where it stands (file and line, or sample), and its fields."""
FORMATS = ("inspect", "lm-eval", "rollouts")
KNOWN: dict[str, dict[str, tuple[str, ...]]] = {
    "inspect": {
        "task": ("id",),
        "response": ("completion",),
        "prompt": ("input",),
        "type": ("metadata.exploit_type",),
    },
    "lm-eval": {
        "task": ("doc_id",),
        "response": ("response",),
        "prompt": ("prompt",),
        "type": ("doc.exploit_type",),
    },
    "rollouts": {
        "task": ("task_id", "problem_id", "example_id"),
        "response": ("response", "output", "completion", "completions"),
        "prompt": ("prompt", "input", "question"),
        "type": ("exploit_type",),
    },
}
"""Where each format keeps what rows need, the first that is there, unless the user says otherwise: verl's and
OpenRLHF's input and output, TRL's prompt and completion, verifiers' example_id. What an exploit is, no format says."""


def guess_format(path: Path) -> str:
    """By the file's name. Raises InputError where that does not tell."""
    if path.suffix == ".eval":
        return "inspect"
    if path.name.startswith("samples_") and ".jsonl" in path.name:
        return "lm-eval"
    if path.name.removesuffix(".gz").endswith((".jsonl", ".parquet")):
        return "rollouts"
    raise InputError("cannot be told by its name", path=path, fix=f"--format {' | '.join(FORMATS)}")


def samples_of(path: Path, kind: str, filter_name: str | None = None) -> Iterator[Sample]:
    """Every sample of a file; `filter_name` picks one of lm-eval's filters. Raises InputError for a sample that cannot
    be read, naming the line."""
    if path.is_dir():
        raise InputError("is a folder", path=path, fix=f"name the files in it: {path}/*")
    if not has_table(path):
        raise InputError("no such file", path=path, fix="name a log: .eval, samples_*.jsonl, .jsonl or .parquet")
    if kind not in FORMATS:
        raise InputError(f"--format {kind!r} is not one of {', '.join(FORMATS)}")
    if filter_name is not None and kind != "lm-eval":
        raise InputError(f"--filter {filter_name!r}: {kind} has no filters, lm-eval has")
    if kind == "lm-eval":
        return _lm_eval(path, filter_name)
    return _inspect(path) if kind == "inspect" else _rollouts(path)


def _inspect(path: Path) -> Iterator[Sample]:
    try:
        from inspect_ai.log import read_eval_log
    except ImportError:
        raise InputError("inspect_ai is not installed", fix="pip install 'foreshock[inspect]'") from None
    try:
        for sample in read_eval_log(str(path)).samples or []:
            scores = {name: score.value for name, score in (sample.scores or {}).items()}
            yield (
                f"{path}: sample {sample.id} epoch {sample.epoch}",
                {
                    "id": sample.id,
                    "epoch": sample.epoch,
                    "input": sample.input if isinstance(sample.input, str) else _messages(sample.input),
                    "completion": sample.output.completion,
                    "scores": None if sample.error is not None and not scores else scores,  # it never came to them
                    "metadata": dict(sample.metadata or {}),
                    "error": None if sample.error is None else sample.error.message,
                    "attempt_idx": sample.epoch - 1,
                },
            )
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - inspect's reader raises errors of zip, JSON and pydantic alike
        raise InputError(f"inspect_ai cannot read it: {error}", path=path) from None


def _messages(messages: Any) -> str:
    return as_text([{"role": message.role, "content": message.text} for message in messages]) or ""


def as_text(value: Any) -> str | None:
    """A text as it is, chat messages as `role: content` paragraphs, anything else as JSON; None where nothing is."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(one, dict) and "content" in one for one in value):
        return "\n\n".join(f"{one.get('role', '?')}: {as_text(one['content']) or ''}" for one in value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _lm_eval(path: Path, filter_name: str | None) -> Iterator[Sample]:
    """lm-eval writes a document's line once for each of its filters, each with another verdict of the same response."""
    seen: dict[str, str] = {}
    filters: dict[str, None] = {}
    for where, row in _json_lines(path):
        name = str(row.get("filter", "none"))
        filters.setdefault(name)
        if filter_name is not None and name != filter_name:
            continue
        document = str(row.get("doc_id"))
        if document in seen:
            raise InputError(
                f"{where}: document {document} was at {seen[document]} already: lm-eval repeats it for each filter, "
                "and one response would count several times",
                fix=f"--filter NAME, of {', '.join(filters)}" if len(filters) > 1 else "log one filter only",
            )
        seen[document] = where
        answers = [
            text for repeat in row.get("resps") or [] for text in (repeat if isinstance(repeat, list) else [repeat])
        ]
        if len(answers) != 1 or not isinstance(answers[0], str):
            raise InputError(
                f"{where}: holds {len(answers)} responses, and lm-eval's one verdict is of them together",
                fix="run lm-eval with repeats: 1 for a generation task",
            )
        yield where, {**row, "response": answers[0], "prompt": _lm_eval_prompt(row)}
    if filter_name is not None and filter_name not in filters:
        raise InputError(f"no filter {filter_name!r}; there are: {', '.join(filters)}", path=path)


def _lm_eval_prompt(row: dict[str, Any]) -> str | None:
    """What was sent: arguments are an object of objects, a list of lists before 0.4.3; else the document itself."""
    arguments = row.get("arguments")
    first: Any = next(iter(arguments.values()), None) if isinstance(arguments, dict) else arguments
    while isinstance(first, dict | list) and first:
        first = first.get("arg_0") if isinstance(first, dict) else first[0]
    return first if isinstance(first, str) else as_text(row.get("doc"))


def _rollouts(path: Path) -> Iterator[Sample]:
    if path.suffix != ".parquet":
        yield from _json_lines(path)
        return
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(batch_size=2048):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}: row {number}", row
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"not a parquet file: {error}", path=path) from None


def _json_lines(path: Path) -> Iterator[Sample]:
    try:
        raw = read_maybe_gzip(path)
    except OSError as error:
        raise InputError(f"cannot be read: {error}", path=path) from None
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", parse_line(line, path, number)


def field_of(sample: dict[str, Any], key: str) -> Any:
    """A field by its dotted name; a key that holds dots itself comes first. Raises KeyError if it is not there."""
    if key in sample:
        return sample[key]
    head, _, rest = key.partition(".")
    below = sample[head]
    if isinstance(below, str) and rest:
        below = json.loads(below) if below.startswith("{") else below
    if not rest or not isinstance(below, dict):
        raise KeyError(key)
    return field_of(below, rest)


def names_in(sample: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of every field of a sample, for messages."""
    found = []
    for name, value in sample.items():
        found += names_in(value, f"{prefix}{name}.") if isinstance(value, dict) and value else [f"{prefix}{name}"]
    return found
