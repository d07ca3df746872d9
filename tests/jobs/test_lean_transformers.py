"""transformers is imported without scikit-learn, and nothing else of it is changed."""

from __future__ import annotations

import sys

import pytest
import transformers.generation.candidate_generator as loaded
from transformers import utils

from foreshock.jobs.lean_transformers import leave_out_sklearn


def test_only_the_generation_code_is_told_that_scikit_learn_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["transformers.generation"], "candidate_generator", loaded)  # put back at the end
    monkeypatch.delitem(sys.modules, loaded.__name__)
    before = utils.is_sklearn_available
    leave_out_sklearn()
    anew = sys.modules[loaded.__name__]
    assert anew is not loaded
    assert not anew.is_sklearn_available()
    assert not hasattr(anew, "roc_curve")
    assert utils.is_sklearn_available is before
    assert utils.is_sklearn_available()


def test_what_is_imported_stays() -> None:
    leave_out_sklearn()
    assert sys.modules[loaded.__name__] is loaded
