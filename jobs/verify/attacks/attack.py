"""What an attack is, and what each tier claims against it.

An attack reports from inside and is watched from outside. `f(world)` returns "escaped" when it believes to have
succeeded; the harness also looks at files, sockets and processes of its own, which no submission should be able to
touch.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent

from foreshock.jobs.records.verdicts import SandboxTier

ISOLATED = frozenset({SandboxTier.FULL, SandboxTier.NO_USERNS})
EVERYWHERE = frozenset(SandboxTier)
FULL_ONLY = frozenset({SandboxTier.FULL})


@dataclass(frozen=True, slots=True)
class Attack:
    """One hostile submission.

    code: defines f(world); `world` is a dict: secret, folder, listing, tcp, udp, unix, abstract, datagrams, victim,
    judge, token, phase. claimed: tiers that promise to hold. run_on: tiers where it is safe to try (some would take the
    machine down where nothing holds them). late: effects may come after the verdict. wall_s: time it is given.
    phases: how many submissions in a row belong to it.
    """

    group: str
    name: str
    code: str
    claimed: frozenset[SandboxTier] = ISOLATED
    run_on: frozenset[SandboxTier] = EVERYWHERE
    late: bool = False
    wall_s: float = 5.0
    phases: int = 1

    @property
    def key(self) -> str:
        """Name that is unique over all groups."""
        return f"{self.group}: {self.name}"


def body(text: str) -> str:
    """f(world) with this body: an exception means that the attack was stopped."""
    lines = dedent(text).strip("\n").splitlines()
    inner = "\n".join("        " + line for line in lines)
    return (
        "import os, sys, socket, ctypes, signal, threading, time, struct, json\n"
        f"def f(world):\n    try:\n{inner}\n    except (OSError, MemoryError, ImportError, AttributeError) as error:\n"
        "        return 'stopped: ' + type(error).__name__ + ' ' + str(error)\n"
    )


def any_of(*attempts: str, before: str = "") -> str:
    """Text for `body` that reports success where one of these expressions does not raise OSError."""
    tries = "".join(f"lambda: {attempt}, " for attempt in attempts)
    return f"""{dedent(before)}
for attempt in ({tries}):
    try:
        attempt()
        return 'escaped'
    except OSError:
        pass
return 'stopped'"""
