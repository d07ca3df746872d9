"""sbatch's options as people write them: `gpus`, `--gpus`, `gpus_per_node`, `G`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_LONG = {
    "A": "account", "a": "array", "B": "extra-node-info", "b": "begin", "C": "constraint", "c": "cpus-per-task",
    "D": "chdir", "d": "dependency", "e": "error", "F": "nodefile", "G": "gpus", "H": "hold", "i": "input",
    "J": "job-name", "k": "no-kill", "L": "licenses", "M": "clusters", "m": "distribution", "N": "nodes", "n": "ntasks",
    "O": "overcommit", "o": "output", "p": "partition", "Q": "quiet", "q": "qos", "S": "core-spec",
    "s": "oversubscribe", "t": "time", "v": "verbose", "W": "wait", "w": "nodelist", "x": "exclude",
}  # fmt: skip
_WORD = re.compile(r"-{0,2}([A-Za-z][A-Za-z0-9]*(?:[-_][A-Za-z0-9]+)*)")


def long_name(key: str) -> str | None:
    """The long name of an option, without dashes before it; None for what is none, such as `gpus=2`."""
    match = _WORD.fullmatch(key)
    if match is None:
        return None
    return _LONG.get(match[1], match[1].replace("_", "-"))


def by_long_name(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by long name, those that are false left out. Raises ValueError for no name, or one given twice."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        name = long_name(str(key))
        if name is None:
            first = re.split(r"[=\s]", str(key).lstrip("-"))[0]
            raise ValueError(f"{key!r} is not the name of an option; write `{first or 'gpus'}: VALUE`")
        if name in found:
            raise ValueError(f"{name} is given twice")
        found[name] = value
    return {name: value for name, value in found.items() if value is not False}
