"""A problem in djinn's schema: field names are djinn's, so its files load as they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One coding problem with a secure and an exploitable verifier.

    `test_cases` and its variants are lists of [input, expected output] pairs, as djinn writes them: a Python
    literal or JSON text, or a list. None in `insecure_test_cases` means the same cases as the secure verifier.
    `extra` keeps fields of the source that foreshock does not read.
    """

    id: str
    description: str
    function_name: str
    test_cases: Any
    ground_truth: str
    exploit: str
    insecure_verifier_info: str
    exploit_explanation: str
    exploit_type: str
    secure_test_cases: Any = None
    insecure_test_cases: Any = None
    order_dependent: bool = True
    extra: dict[str, Any] = field(default_factory=dict)
