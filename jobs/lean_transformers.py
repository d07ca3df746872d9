"""transformers without what is not used of it, which was most of what a start took.

Its tokenizers and configurations import torch if that is installed, and its generation code imports scikit-learn, and
with it pandas and scipy. Reading tokenizers needs neither; sampling needs torch alone.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_GENERATION = "transformers.generation.candidate_generator"
_NAME = "transformers"
_QUIET = "TRANSFORMERS_NO_ADVISORY_WARNINGS"

_own: dict[str, ModuleType] = {}
"""Modules of a second transformers, imported as if torch were not installed. Nobody else ever sees them."""
_lock = threading.RLock()


@contextmanager
def reading_transformers() -> Iterator[Any]:
    """The transformers to read a folder's tokenizer and configuration with; keep none of its functions.

    Where transformers or torch is there already, it is that one. Else it is a second one that believes torch not to be
    installed (one CPU second in place of four): inside the block the process's transformers, outside it none, so that
    whoever imports transformers later gets the whole of it. What it made goes on working outside.
    """
    with _lock:
        there = sys.modules.get(_NAME)
        if there is not None and there is _own.get(_NAME):  # a block within a block
            yield there
        elif there is not None or ("torch" in sys.modules and not _own):
            leave_out_sklearn()
            yield sys.modules[_NAME]
        else:
            sys.modules.update(_own)
            try:
                _own[_NAME] = _own.get(_NAME) or _without_torch()
                yield _own[_NAME]
            finally:
                for name in [name for name in sys.modules if name.partition(".")[0] == _NAME]:
                    _own[name] = sys.modules.pop(name)


def _without_torch() -> ModuleType:
    told = os.environ.get(_QUIET)
    os.environ[_QUIET] = "1"  # it would say that models need torch
    sys.modules["torch"] = None  # type: ignore[assignment]  # as Python has it: it is not there
    try:
        found = importlib.import_module(_NAME)
        found.utils.is_torch_available()  # it remembers its answer
    finally:
        del sys.modules["torch"]
        os.environ.pop(_QUIET)
        if told is not None:
            os.environ[_QUIET] = told
    found.utils.logging.disable_default_handler()  # beside another one's it would say everything twice
    return found


def leave_out_sklearn() -> None:
    """Import transformers' generation code as if scikit-learn were not there; call it before what leads to that code.

    Whatever asks transformers for scikit-learn later hears the truth.
    """
    if _GENERATION in sys.modules:
        return
    from transformers import utils

    answers = vars(utils)
    asked = answers["is_sklearn_available"]
    answers["is_sklearn_available"] = lambda: False
    try:
        import transformers.generation.candidate_generator  # noqa: F401 - now, while the answer is no
    finally:
        answers["is_sklearn_available"] = asked
