"""Reading a run configuration: every error at once, each with its file, line and key."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from foreshock import yamlfile
from foreshock.batch.config import RunConfig
from foreshock.errors import InputError
from foreshock.yamlfile import KeyLines


def with_overrides(config: RunConfig, given: Sequence[str]) -> RunConfig:
    """The configuration with `key=value` from a command line in place of its own values.

    Keys are dotted (`sampling.attempts=5`), values are YAML (`prefill.levels=[0,10]`), relative paths are relative to
    the working directory. Raises InputError for an unknown key, naming the nearest ones, and for a wrong value.
    """
    data = config.to_yaml_dict()
    for item in given:
        key, sign, text = item.partition("=")
        if not sign or not key.strip():
            raise InputError(f"{item!r} is not key=value", fix="for example: sampling.attempts=5")
        _set(data, key.strip(), text)
    return parse_config(data) if given else config


def _set(data: dict[str, Any], key: str, text: str) -> None:
    *path, name = key.split(".")
    place: Any = data
    known: list[str] = []
    free = False  # below a section of free keys, such as engine.options
    for part in [*path, name]:
        valid = valid_keys(known)
        free = free or not valid
        if not free and part not in valid:
            near = difflib.get_close_matches(key, all_keys(), n=3, cutoff=0.5) or valid
            raise InputError(f"unknown key {key!r}; nearest: {', '.join(near)}", fix="all: docs/configuration.md")
        known.append(part)
    if not free and valid_keys(known):
        raise InputError(f"{key!r} is a section; give one of {', '.join(f'{key}.{k}' for k in valid_keys(known))}")
    for part in path:
        place = place.setdefault(part, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise InputError(f"{key!r}: {part!r} holds a value, no further keys")
    try:
        place[name] = text if _is_text([*path, name]) and text not in ("null", "") else yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(
            f"{key}: {text!r} is not valid YAML", fix="quote it for the shell: 'prefill.levels=[0,10]'"
        ) from None


def all_keys() -> list[str]:
    """Every dotted key of the schema."""
    found = []
    for section in valid_keys():
        below = valid_keys([section])
        found += [f"{section}.{key}" for key in below] or [section]
    return found


def _is_text(path: Sequence[str]) -> bool:
    """Whether a key takes text and nothing else, so that `name=2026` stays text."""
    model: Any = RunConfig
    for part in path[:-1]:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        model = None if field is None else field.annotation
    field = model.model_fields.get(path[-1]) if hasattr(model, "model_fields") else None
    kinds = () if field is None else (field.annotation, *get_args(field.annotation))
    return str in kinds and not any(kind in kinds for kind in (int, float, bool))


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
    """Validate plain data; relative paths in it are relative to the folder of `path`, its file.

    Raises InputError that lists every error at once.
    """
    if not isinstance(data, dict):
        raise InputError(
            f"expected a mapping of sections, found {type(data).__name__}; valid keys: {', '.join(valid_keys())}",
            path=path,
        )
    try:
        return RunConfig.model_validate(data, context={} if path is None else {"folder": path.absolute().parent})
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
