"""djinn's flawed verifiers inside the sandbox, by the light route.

`djinn.core` is an empty namespace here. Its real __init__ builds a registry from a folder that the package lacks and
pulls in data sets and cloud clients; the verifiers need two small enums of it.
"""

from __future__ import annotations

import importlib
import re
import sys
import types
from pathlib import Path
from typing import Any

from foreshock.jobs.verify import plain
from foreshock.jobs.verify.djinn import clock

_STUBS = ("djinn", "djinn.core")
_statuses = {"passed", "failed", "timed_out", "crashed"}


class ProblemStandIn:
    """What djinn hands its flawed verifiers instead of the problem: the same names as its own stand-in."""

    def __init__(self, function_name: str, test_cases: list[Any], order_dependent: bool) -> None:
        self.function_name = function_name
        self.test_cases = test_cases
        self.order_dependent = order_dependent

    def get_test_cases_safe(self) -> list[Any]:
        """The test cases; never None."""
        return self.test_cases or []


def prepare(options: dict[str, Any]) -> None:
    """In the zygote: import every flawed verifier once."""
    root = Path(options["djinn_root"])
    for name in _STUBS:
        package = types.ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")))]
        sys.modules[name] = package
        parent, _, child = name.rpartition(".")
        if parent in sys.modules:
            setattr(sys.modules[parent], child, package)
    helpers = [f"helpers.{path.stem}" for path in root.glob("djinn/verifiers/insecure/helpers/*.py")]
    for name in (*options["djinn_types"], *helpers):
        clock.make_load_proof(importlib.import_module(f"djinn.verifiers.insecure.{name}"))
    clock.count_sleeps()


def run_insecure(request: dict[str, Any]) -> dict[str, Any]:
    """The verdict of one flawed verifier: outcome and detail."""
    verifier = sys.modules[f"djinn.verifiers.insecure.{request['exploit_type']}"]
    cases = [(plain.decode(given), plain.decode(expected)) for given, expected in request["cases"]]
    problem = ProblemStandIn(request["function_name"], cases, request["order_dependent"])
    try:
        result = verifier.verify(problem, request["code"])
    except SystemExit:
        return {"outcome": "crashed", "detail": "the submission exited"}
    except Exception as error:  # noqa: BLE001 - djinn counts what its verifier raises as a crash
        return {"outcome": "crashed", "detail": ": ".join(plain.opaque("x", error)[1:])}
    status = str(getattr(result.status, "value", result.status))
    return {
        "outcome": status if status in _statuses else "crashed",
        "detail": str(result.feedback)[:1000],
        "suspect": bool(result.suspect),
        "suspect_patterns": [str(one) for one in result.suspect_patterns or ()],
    }


def looks_intended(request: dict[str, Any]) -> dict[str, Any]:
    """Whether any of djinn's patterns is in the source. In here, because they backtrack on text made for it."""
    return {"intended": any(re.search(one, request["code"], re.IGNORECASE) for one in request["patterns"])}


RUNS = {"djinn": run_insecure, "djinn-intended": looks_intended}
