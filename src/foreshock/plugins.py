"""What stands behind a name: foreshock's own entries, and those that installed packages add through entry points.

Names are told without importing anything. An entry is imported when it is asked for, and a broken or ambiguous one is
an error for those who ask for it, never a silent replacement of another.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar, cast

from foreshock.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry is. `address` is module:attribute; `origin` is foreshock, or a distribution and its version."""

    address: str
    origin: str


@dataclass(frozen=True)
class Registry(Generic[T]):
    """Entries of one kind by name.

    `noun` is what messages call an entry, `group` the entry-point group, `kind` the address of the class that an entry
    has to be an instance of, and `own` the address of each of foreshock's.
    """

    noun: str
    group: str
    kind: str
    own: Mapping[str, str]

    def names(self) -> list[str]:
        """Every name, sorted."""
        return sorted({*self.own, *_installed(self.group)})

    def origin(self, name: str) -> str:
        """Where the entry comes from. Raises InputError as `get` does for a name that is unknown or taken twice."""
        return self._place(name).origin

    def get(self, name: str) -> T:
        """The entry. Raises InputError for an unknown name, naming the valid ones; for a name that is taken twice; and
        for an entry that cannot be imported or is of another kind, naming its package."""
        place = self._place(name)
        try:
            found = _at(place.address)
        except Exception as error:
            if place.origin == "foreshock":
                raise
            last = traceback.format_exception_only(error)[-1].strip()
            raise InputError(
                f"{self.noun} {name!r} of {place.origin} cannot be imported from {place.address}: {last}",
                fix=f'fix or uninstall that package; its entry point is in the group "{self.group}"',
            ) from error
        kind = _at(self.kind)
        if not isinstance(found, kind) or getattr(found, "name", name) != name:
            raise InputError(
                f"{self.noun} {name!r} of {place.origin}: {place.address} is {_described(found)}; needed: a "
                f"{kind.__name__} with the name {name!r}",
                fix=f'fix that package; its entry point is in the group "{self.group}"',
            )
        return cast(T, found)

    def _place(self, name: str) -> Place:
        places = [Place(self.own[name], "foreshock")] if name in self.own else []
        places += _installed(self.group).get(name, ())
        if not places:
            raise InputError(
                f"unknown {self.noun} {name!r}; valid: {', '.join(self.names())}",
                fix=f'others come with packages that have an entry point in the group "{self.group}"',
            )
        if len(places) > 1:
            origins = " and ".join(place.origin for place in places)
            raise InputError(
                f"{self.noun} {name!r} is offered by {origins}, so which is meant is unknown",
                fix="uninstall one of them, or rename its entry point",
            )
        return places[0]


def _at(address: str) -> Any:
    module, _, attribute = address.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _described(found: object) -> str:
    name = getattr(found, "name", None)
    return f"a {type(found).__name__}" + (f" with the name {name!r}" if isinstance(name, str) else "")


@cache
def _installed(group: str) -> dict[str, tuple[Place, ...]]:
    from importlib import metadata  # a tenth of a second, which `foreshock --help` does not have

    found: dict[str, dict[Place, None]] = {}
    for entry in metadata.entry_points(group=group):
        origin = "an unnamed package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
        # An editable package may be seen twice on sys.path: it is one all the same.
        found.setdefault(entry.name, {})[Place(entry.value, origin)] = None
    return {name: tuple(places) for name, places in found.items()}


def forget_installed() -> None:
    """Look for installed packages again, which a process otherwise does once."""
    _installed.cache_clear()
