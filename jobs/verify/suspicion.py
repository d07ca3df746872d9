"""Signs of an exploit attempt in a submission, as the flawed verifier reports them beside its verdict."""

from __future__ import annotations

import json

from foreshock.jobs.records.verdicts import Suspicion
from foreshock.jobs.verify.judge import printable
from foreshock.jobs.verify.sandbox.watch import Ending
from foreshock.jobs.verify.sandbox.worker import Run

_MOST_PATTERNS = 50
_PATTERN_CHARS = 200


def reported(run: Run) -> Suspicion:
    """What the answer of an insecure run says; nothing when it brought none or an unreadable one."""
    if run.ending is not Ending.RESULT:
        return Suspicion()
    try:
        message = json.loads(run.payload)
    except (ValueError, RecursionError):
        return Suspicion()
    seen = message.get("suspect") if isinstance(message, dict) else None
    if not isinstance(seen, bool):
        return Suspicion()
    named = message.get("suspect_patterns")
    texts = [printable(one, _PATTERN_CHARS) for one in named if isinstance(one, str)] if isinstance(named, list) else []
    return Suspicion(seen, tuple(texts[:_MOST_PATTERNS]) if seen else ())
