"""Reading a run configuration: every error at once, each with its file, line and key."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import (
    BaseModel,
    ValidationError,
)

from foreshock import yamlfile
from foreshock.batch.config import RunConfig
from foreshock.errors import InputError
from foreshock.yamlfile import KeyLines


def with_endpoint(engine: dict[str, Any], base_url: str | None, served_model: str | None) -> dict[str, Any]:
    """The engine section of a command line that names a server; unchanged without one."""
    if base_url is None and served_model is None:
        return engine
    given = {"base_url": base_url, "model": served_model}
    own = engine.get("options", {}) if engine.get("name") == "openai" else {}
    options = {**own, **{key: value for key, value in given.items() if value is not None}}
    return {**engine, "name": "openai", "options": options}


def valid_keys(path: Sequence[str | int] = ()) -> list[str]:
    """Keys that the section at `path` accepts; empty if it is not a section."""
    model: type[BaseModel] = RunConfig
    for part in path:
        field = model.model_fields.get(str(part))
        candidates = [] if field is None else [field.annotation, *get_args(field.annotation)]
        sections = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not sections:
            return []
        model = sections[0]
    return list(model.model_fields)


def _describe(error: Any, lines: dict[tuple[str | int, ...], int], path: Path | None) -> str:
    location = tuple(error["loc"])
    line = next((lines[location[:n]] for n in range(len(location), 0, -1) if location[:n] in lines), None)
    where = f"{path or 'configuration'}" + (f":{line}" if line else "")
    key = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        valid = valid_keys(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), valid, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"{where}: unknown key {key!r}{hint} (valid here: {', '.join(valid)})"
    if error["type"] == "missing":
        return f"{where}: missing key {key!r}"
    message = error["msg"].removeprefix("Value error, ")
    given = "" if isinstance(error["input"], dict) else f" (given: {error['input']!r})"
    return f"{where}: {key + ': ' if key else ''}{message}{given}"


def parse_config(
    data: Any, path: Path | None = None, lines: dict[tuple[str | int, ...], int] | None = None
) -> RunConfig:
    """Validate plain data. Raises InputError that lists every error at once."""
    if not isinstance(data, dict):
        raise InputError(
            f"expected a mapping of sections, found {type(data).__name__}; valid keys: {', '.join(valid_keys())}",
            path=path,
        )
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        # A union reports every branch that failed; one line a place is what a reader wants.
        seen: dict[str, str] = {}
        problems = error.errors()
        places = {problem["loc"][:-1] for problem in problems}
        for problem in problems:
            if problem["type"] == "too_short" and problem["loc"] in places:
                continue  # it is empty only because its items are wrong, which is said of each
            text = _describe(problem, lines or {}, path)
            seen.setdefault(text.split(" (given", 1)[0], text)
        raise InputError(
            f"{len(seen)} error{'s' if len(seen) > 1 else ''} in the configuration:\n  " + "\n  ".join(seen.values()),
            fix="foreshock run --help lists the sections; docs/configuration.md explains every key",
        ) from None


def load_yaml(path: Path) -> tuple[Any, KeyLines]:
    """Parsed YAML and the line of every key; see `foreshock.yamlfile`. Raises InputError."""
    return yamlfile.load_yaml(
        path,
        "no such configuration file",
        "check the path; docs/configuration.md starts with one to copy, and foreshock demo runs without any",
    )


def load_config(path: Path) -> RunConfig:
    """Read a run configuration, or the `config.yaml` of an earlier run."""
    data, lines = load_yaml(path)
    if isinstance(data, dict) and isinstance(data.get("config"), dict) and "command" in data:
        nested = {key[1:]: line for key, line in lines.items() if key[0] == "config"}
        return parse_config(data["config"], path, nested)
    return parse_config(data, path, lines)
