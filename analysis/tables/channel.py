"""Which attempts had the beginning of their answer forced, and what may be made of them.

Weights and growth models speak of words that the model would have had to write itself, from the first one on. A forced
answer follows reasoning that was given, so its log-probability is none of a whole beginning: it is a score of its own.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ANSWER = "answer"


def forced_answers(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """[n] rows of the answer channel; rows of other tools, which do not say, are of the reasoning channel."""
    if "prefill_channel" not in rows:
        return np.zeros(len(rows), dtype=bool)
    return (rows["prefill_channel"].astype(object) == ANSWER).to_numpy(dtype=bool)


def left_out_note(run: str, n: int, of_what: str) -> str:
    """One sentence for those who read the result."""
    return (
        f"{run}: {n} attempts had the beginning of their answer forced (prefill.channel: answer), after reasoning that "
        f"was given; {of_what}"
    )
