"""transformers without scikit-learn: its generation code imports that, and with it pandas and scipy, for one feature
that nothing here uses (a threshold of assisted decoding). It was a third of what every worker's start took."""

from __future__ import annotations

import sys

_IMPORTER = "transformers.generation.candidate_generator"


def leave_out_sklearn() -> None:
    """Import transformers' generation code as if scikit-learn were not there; call it before what leads to that code.

    Whatever asks transformers for scikit-learn later hears the truth.
    """
    if _IMPORTER in sys.modules:
        return
    from transformers import utils

    answers = vars(utils)
    asked = answers["is_sklearn_available"]
    answers["is_sklearn_available"] = lambda: False
    try:
        import transformers.generation.candidate_generator  # noqa: F401 - now, while the answer is no
    finally:
        answers["is_sklearn_available"] = asked
