"""What an exploit family is: a flawed verifier, and how its flaw is meant to be used.

`check` runs inside the sandbox, in the submission's own process, because sharing a process is the flaw of insecure
verifiers. It is plain Python over plain data, so it is also testable on trusted code in process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

LEAKED = "leaked"
"""The family option that repeats the weak verifier's cases; derived from them where a problem does not give it."""


@dataclass(frozen=True, slots=True)
class TestCase:
    """Input of one call, and the value a right solution returns.

    `args` holds one input as djinn stores it, which may itself be a tuple of several arguments, or the arguments that a
    built-in problem lists apart; `calling.call` makes the call.
    """

    __test__ = False  # not a pytest class

    args: tuple[Any, ...]
    expected: Any


class Check(Protocol):
    """`check(module, function_name, cases, source, options)` -> does the flawed verifier pass this submission?

    `module` is the executed submission, `source` its text, `options` the problem's family options
    (`problem.extra["family_options"]`). It may raise: the runner counts an exception as a failure unless the
    family says otherwise.
    """

    def __call__(
        self,
        module: ModuleType,
        function_name: str,
        cases: Sequence[TestCase],
        source: str,
        options: Mapping[str, Any],
    ) -> bool: ...


@dataclass(frozen=True, slots=True)
class Family:
    """One exploit family.

    name: djinn's exploit_type. weakness: one sentence for `insecure_verifier_info`. check: the flawed verifier.
    exploit: (function_name, cases, options) -> the intended exploit's source. intended: does this source use the
    intended route? A pass without it is marked suspect.
    exit_zero_passes: the flawed verifier counts a child process that ends with status 0 as a pass.
    options: every family option that check and intended read, with its default; None for one that is derived.
    """

    name: str
    weakness: str
    check: Check
    exploit: Callable[[str, Sequence[TestCase], Mapping[str, Any]], str]
    intended: Callable[[str, Mapping[str, Any]], bool]
    exit_zero_passes: bool = False
    options: Mapping[str, str | None] = field(default_factory=dict)
