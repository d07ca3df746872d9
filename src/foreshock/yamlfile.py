"""Reading YAML that people write: what YAML would change in silence is an error with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from foreshock.errors import InputError

KeyLines = dict[tuple[str | int, ...], int]


def load_yaml(path: Path, missing: str = "no such file", fix: str | None = None) -> tuple[Any, KeyLines]:
    """Parsed YAML and the line (from 1) of every key.

    Raises InputError for a file that cannot be read, naming the line of a syntax error, of a key that is given
    twice (YAML takes the last one), and of an unquoted `12:00:00` (which YAML reads as 43200).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(missing, path=path, fix=fix) from None
    except IsADirectoryError:
        raise InputError("is a directory; give the YAML file", path=path) from None
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text at byte {error.start}", path=path) from None
    try:
        return yaml.safe_load(text), key_lines(yaml.compose(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        raise InputError(f"not valid YAML: {error.problem}", path=path, line=line) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise InputError(f"not valid YAML: {error}", path=path) from None
    except RecursionError:
        raise InputError("not valid YAML: nested too deeply", path=path) from None


def key_lines(node: yaml.Node | None) -> KeyLines:
    """Line of every key in a YAML document. An aliased node counts where it is written first.

    Raises yaml.MarkedYAMLError for a repeated key and for a number that YAML reads to base 60.
    """
    lines: KeyLines = {}
    seen: set[int] = set()

    def walk(node: yaml.Node | None, prefix: tuple[str | int, ...]) -> None:
        if node is None or id(node) in seen:
            return  # a node that holds itself has no end
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                path = (*prefix, str(key.value))
                if path in lines:
                    first = f"key {key.value!r} was given before, in line {lines[path]}"
                    raise yaml.MarkedYAMLError(problem=first, problem_mark=key.start_mark)
                lines[path] = key.start_mark.line + 1
                walk(value, path)
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                lines[(*prefix, i)] = value.start_mark.line + 1
                walk(value, (*prefix, i))
        elif isinstance(node, yaml.ScalarNode) and _is_base_60(node):
            said = f"{node.value} without quotes is a number to base 60 in YAML; write {node.value!r} with the quotes"
            raise yaml.MarkedYAMLError(problem=said, problem_mark=node.start_mark)

    walk(node, ())
    return lines


def _is_base_60(node: yaml.ScalarNode) -> bool:
    return ":" in node.value and node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
