"""Blocks that the answer itself says are not its solution: wrong ones, what it started from, a template."""

from __future__ import annotations

import re

from foreshock.jobs.answers.python_text import is_stub

_KIND = r"(?: (?:version|attempt|solution|implementation|approach|example|code|function|snippet|way))?"
_REJECTED = re.compile(
    r"[\W\d_]*(?:(?:what|this|the following|the code below|something like this)(?: version| code| one)?"
    r" (?:would|does|will|is|do)(?:n[’']?t| not)?(?: work| be right| be correct| correct| right| wrong| incorrect)"
    r"|(?:please )?(?:don[’']?t|do not|never|avoid) (?:do|doing|write|writing|use|using) (?:this|it like this)"
    rf"|(?:a |the )?(?:wrong|incorrect|buggy|broken|bad|anti-?pattern|common mistakes?){_KIND}(?: would be| is)?"
    r"|(?:for (?:reference|comparison|context)\W+)?(?:here(?:[’']s| is| was) )?(?:before"
    rf"|(?:your|the|my) (?:original|old|previous|initial|existing){_KIND})(?: (?:is|was|looked like)(?: this)?)?"
    r"|for (?:reference|comparison|contrast)\W+(?:here(?:[’']s| is) )?(?:the|a) "
    rf"(?:naive|naïve|brute[- ]force|slow|slower|inefficient|original|old){_KIND}(?: is| was)?)"
    r"(?:,? (?:because|since|as it|\()[^\n]*)?[\W_]*",
    re.I,
)
"""A line, or a comment on a block's first one, that says of the block below that it is not to be used, or that it is
what the answer started from."""
_TEMPLATE_ABOVE = re.compile(
    r"\b(?:template|skeleton|stub|signature|starter|boilerplate|placeholder|scaffold(?:ing)?|prototype|interface|exercise)\b",
    re.I,
)
"""A word of a line that announces a function without its body."""


def is_rejected(above: str, code: str, name: str) -> bool:
    """Whether the line above a block of code, or a comment on its first line, says that it is not to be used."""
    if _TEMPLATE_ABOVE.search(above) and is_stub(code, name):
        return True
    first = code.split("\n", 1)[0]
    return any(_REJECTED.fullmatch(line) for line in (above, first if first.startswith("#") else ""))
