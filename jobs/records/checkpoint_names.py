"""What a checkpoint's directory may be called, which step it is, and what it is called in results.

Trainers name directories each in their own way; results always say `checkpoint-N` or `final`. This is the one place
that knows either kind of name. Standard library only: analysis reads it too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from foreshock.errors import InputError

FINAL = "final"
RESULT_NAME = rf"checkpoint-\d+|{FINAL}"
"""Regular expression of a checkpoint's name in results, without groups."""

_RESULT = re.compile(r"^checkpoint-(\d{1,18})$")
_LOOKS_LIKE_A_STEP = re.compile(r"(?i)(checkpoint|ckpt|step|iter|epoch)[^0-9]*\d|^\d+$")
_MOST_NAMED = 6


def result_name(step: int | None) -> str:
    """What results call the checkpoint of a step; None is `final`."""
    return FINAL if step is None else f"checkpoint-{step}"


def result_step(name: str) -> int | None:
    """The step that a name in results says; None for `final`. Raises ValueError for any other name."""
    if name == FINAL:
        return None
    match = _RESULT.match(name)
    if match is None:
        raise ValueError(f"{name!r} is not a checkpoint name; valid: checkpoint-N or {FINAL}")
    return int(match[1])


def checkpoint_order(name: str) -> tuple[bool, int]:
    """Sort key of a name in results: its step, however large; `final` last."""
    step = result_step(name)
    return (step is None, step or 0)


@dataclass(frozen=True, slots=True)
class NamingRule:
    """How one trainer names its checkpoint directories; the whole name must match `pattern`, with a group `step`."""

    label: str
    pattern: re.Pattern[str]

    def matches(self, name: str) -> bool:
        """Whether the name is one of this rule's."""
        return self.pattern.fullmatch(name) is not None

    def step(self, name: str) -> int | None:
        """The step; None for `final`. Raises ValueError for another name, or a step that is not a number."""
        match = self.pattern.fullmatch(name)
        if match is None:
            raise ValueError(f"{name!r} is not a checkpoint name ({self.label})")
        said = match["step"]
        if said == FINAL:
            return None
        if said is None or not said.isascii() or not said.isdecimal():
            raise ValueError(f"the step of {name!r} is {said!r}, not a whole number or {FINAL}")
        return int(said)


def _rule(label: str, pattern: str) -> NamingRule:
    return NamingRule(label, re.compile(pattern))


DEFAULT_RULES = (
    _rule("checkpoint-N", r"checkpoint[-_](?P<step>\d{1,18})"),
    _rule("global_step_N", r"global_step_?(?P<step>\d{1,18})"),
    _rule("step_N", r"step[-_]?(?P<step>\d{1,18})"),
    _rule("iter_N", r"iter(?:ation)?[-_](?P<step>\d{1,18})"),
    _rule("epoch-N", r"epoch[-_]?(?P<step>\d{1,18})"),
)
"""Rules tried where none is given. A further trainer's is one line more."""

REVISION_RULES = (*DEFAULT_RULES, _rule("...stepN...", r"(?:.*[-_/])?step[-_]?(?P<step>\d{1,18})(?:[-_].*)?"))
"""For revisions of a repository on the hub, which say more than the step (`stage1-step1000-tokens5B`)."""

_FINAL_RULE = _rule(FINAL, rf"(?P<step>{FINAL})")


def given_rule(pattern: str) -> NamingRule:
    """The rule that a user's pattern makes. Raises InputError for a pattern that cannot name steps."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"checkpoints.pattern {pattern!r} is not a regular expression: {error}") from None
    if "step" not in compiled.groupindex:
        raise InputError(
            f"checkpoints.pattern {pattern!r} has no group `step`",
            fix=r"mark the step's digits, for example: 'run7-(?P<step>\d+)'",
        )
    return NamingRule(f"checkpoints.pattern {pattern!r}", compiled)


@dataclass(frozen=True, slots=True)
class NamedSteps:
    """Directory names sorted out: `steps` maps a step (None: final) to its name; `unmatched` look like steps but follow
    no rule, or not the folder's own."""

    rule: str
    steps: dict[int | None, str]
    unmatched: tuple[str, ...]


def sort_names(names: Iterable[str], pattern: str | None, where: Path | str, rules: Sequence[NamingRule]) -> NamedSteps:
    """Which names are checkpoints. `pattern`: the user's, else the one of `rules` that fits.

    Raises InputError for two names of one step and for a folder in which more than one rule finds steps: their numbers
    need not count the same thing.
    """
    given = sorted(names)
    if pattern is not None:
        chosen = given_rule(pattern)
    else:
        # Each name counts for the first rule that it follows: a later, wider one takes what the others leave.
        first = {name: next((rule for rule in rules if rule.matches(name)), None) for name in given}
        fitting = [rule for rule in rules if rule in first.values()]
        if len(fitting) > 1:
            examples = [next(name for name in given if first[name] is rule) for rule in fitting]
            raise InputError(
                f"directories named in {len(fitting)} ways ({', '.join(examples)}), so their steps cannot be compared",
                path=Path(where),
                fix=r"say which are the checkpoints with checkpoints.pattern, for example: 'step_(?P<step>\d+)'",
            )
        chosen = fitting[0] if fitting else _FINAL_RULE
    steps: dict[int | None, str] = {}
    for name in given:
        rule = next((rule for rule in (chosen, _FINAL_RULE) if rule.matches(name)), None)
        if rule is None:
            continue
        try:
            step = rule.step(name)
        except ValueError as error:
            raise InputError(str(error), path=Path(where), fix="let checkpoints.pattern match digits alone") from None
        if step in steps:
            raise InputError(
                f"{steps[step]} and {name} are both step {FINAL if step is None else step}",
                path=Path(where),
                fix="move one away, or tell them apart with checkpoints.pattern",
            )
        steps[step] = name
    taken = set(steps.values())
    unmatched = tuple(name for name in given if name not in taken and looks_like_a_step(name))
    return NamedSteps(chosen.label, steps, unmatched)


def looks_like_a_step(name: str) -> bool:
    """Whether a directory's name reads like a checkpoint's, whatever the rules say."""
    return _LOOKS_LIKE_A_STEP.search(name) is not None


def step_of_directory(name: str, pattern: str | None = None) -> int | None:
    """The step that one directory's name says, by the pattern given or the default rules; None for `final`.

    Raises ValueError for a name that follows none.
    """
    rules: list[NamingRule] = [*([given_rule(pattern)] if pattern is not None else DEFAULT_RULES), _FINAL_RULE]
    rule = next((rule for rule in rules if rule.matches(name)), None)
    if rule is None:
        raise ValueError(f"{name!r} is not a checkpoint name; valid: {valid_names()}")
    return rule.step(name)


def valid_names() -> str:
    """The default rules in words."""
    return ", ".join(rule.label for rule in DEFAULT_RULES) + f", {FINAL}"


def some_of(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def gathered(notes: Sequence[str], names: Collection[str]) -> list[str]:
    """Notes on checkpoints ("checkpoint-10: ...") with those that say the same of several made one, in order."""
    about: dict[str, list[str]] = {}
    for note in notes:
        name, colon, rest = note.partition(": ")
        known = bool(colon) and name in names
        about.setdefault(rest if known else note, []).extend([name] if known else [])
    return [f"{some_of(of)}: {text}" if of else text for text, of in about.items()]
