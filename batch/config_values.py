"""What all sections of the configuration share, and how values are read: paths as their file means them, lists as text,
names of registries."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo

from foreshock.errors import InputError
from foreshock.jobs.prompts.problem_prompt import PRESETS
from foreshock.jobs.records.checkpoint_names import FINAL, step_of_directory
from foreshock.jobs.records.exploit_types import intentional_types

T = TypeVar("T")
MANY = 1_000_000
"""More of anything countable than a sweep can hold: a number beyond it is a slip of the keyboard."""
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class Section(BaseModel):
    """Of the configuration: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _absolute(value: Any, info: ValidationInfo) -> Any:
    """A path as text, as its file means it; a default, which is a Path, is relative to the working directory."""
    if isinstance(value, Path):
        return value.expanduser().absolute()
    return absolute_path(value, info) if isinstance(value, str) else value


def absolute_path(text: str, info: ValidationInfo) -> Path:
    """`$VAR` and `~` expanded, relative to the configuration's folder. Raises ValueError for a variable that is not
    set."""
    expanded = os.path.expandvars(text)
    unset = _VARIABLE.search(expanded)
    if unset is not None:
        raise ValueError(f"the environment variable {unset[1] or unset[2]} is not set")
    folder = (info.context or {}).get("folder", Path())
    # `..` is taken out of the text: symbolic links stay as they were given.
    return Path(os.path.normpath((folder / Path(expanded).expanduser()).absolute()))


def read_levels(value: Any) -> Any:
    """Levels may be written as a list or as the historical "0,10,30"."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    return value


def sorted_unique(levels: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(set(levels)))


def read_steps(value: Any) -> Any:
    """Steps may be written as numbers, as directory names, or as one text such as "10,20,final"."""
    if isinstance(value, str):
        if value.strip() == "all":
            return "all"
        value = [part for part in value.split(",") if part.strip()]
    return tuple(_step(item) for item in value) if isinstance(value, list | tuple) else (_step(value),)


def _step(item: Any) -> int | str:
    text = str(item).strip()
    if not isinstance(item, bool) and text.isascii() and text.isdecimal():
        return int(text)
    try:
        step = step_of_directory(text)
    except ValueError:
        raise ValueError(f'{item!r} is not a step; valid: "all", or a list such as [10, 20, final]') from None
    return FINAL if step is None else step


def registered(look: Callable[[], T], further: str = "") -> T:
    """What a registry answers; its errors as one line of the many that may be wrong. `further` names are valid too."""
    try:
        return look()
    except InputError as error:
        raise ValueError(str(error).replace("\n  -> ", "; ").replace("valid: ", f"valid: {further}", 1)) from None


def comma_list(value: Any) -> Any:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value


def intentional_set(text: str) -> str:
    registered(lambda: intentional_types(text))
    return text


def instructions_source(given: str, info: ValidationInfo) -> str:
    """A preset's name as it is, a file's name as an absolute path."""
    return given if given in PRESETS else str(absolute_path(given, info))


def plain_values(given: Any) -> Any:
    """YAML reads a bare day as a date; templates are given its text."""
    if isinstance(given, dict):
        return {name: str(value) if isinstance(value, datetime.date) else value for name, value in given.items()}
    return given


AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]
Steps = Annotated[Literal["all"] | tuple[int | Literal["final"], ...], BeforeValidator(read_steps)]
