"""Looking up, for millions of attempts, the score of each one's own prefix.

Keys become integers from 0 up, and a lookup is a place in an array. Sorting and searching are left for keys that
would need too large an array.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

Ints = npt.NDArray[np.int64]

_DENSE_PLACES = 1 << 24
"""Places of a lookup array up to which it is used, however few the rows: 128 MB."""


def look_up(rows: pd.DataFrame, scores: pd.DataFrame, keys: Sequence[str], value: str) -> npt.NDArray[np.float64]:
    """`value` of the first score with the row's keys: [len(rows)], NaN where there is none."""
    if scores.empty:
        return np.full(len(rows), np.nan)
    code_of_row, code_of_score, n_codes = _codes(rows, scores, keys)
    first = _first_with(code_of_score, n_codes)[code_of_row]
    return np.asarray(np.where(first >= 0, scores[value].to_numpy(dtype=np.float64)[first], np.nan))


def is_shared(rows: pd.DataFrame, keys: Sequence[str], value: str) -> npt.NDArray[np.bool_]:
    """Whether all rows with a row's keys have one `value`: [len(rows)]."""
    code, _, n_codes = _codes(rows, rows, keys)
    values = rows[value].to_numpy()
    other = values != values[_first_with(code, n_codes)[code]]
    mixed = np.zeros(n_codes, dtype=np.bool_)
    mixed[code[other]] = True
    return np.asarray(~mixed[code])


def _codes(rows: pd.DataFrame, scores: pd.DataFrame, keys: Sequence[str]) -> tuple[Ints, Ints, int]:
    """Integers below the last result, one per row of either table, equal where all keys are equal.

    The highest is kept for rows with a key that no score has.
    """
    left, right = np.zeros(len(rows), dtype=np.int64), np.zeros(len(scores), dtype=np.int64)
    known = np.ones(len(rows), dtype=np.bool_)
    n_codes = 1
    for key in keys:
        codes, values = pd.factorize(scores[key].to_numpy())
        place = pd.Index(values).get_indexer(rows[key].to_numpy())
        known &= place >= 0
        left, right, n_codes = left * len(values) + place, right * len(values) + codes, n_codes * len(values)
        if n_codes > max(_DENSE_PLACES, 2 * (len(rows) + len(scores))):
            taken, both = np.unique(np.concatenate([np.where(known, left, -1), right]), return_inverse=True)
            left, right, n_codes = both[: len(rows)], both[len(rows) :], len(taken)
    return np.where(known, left, n_codes), right, n_codes + 1


def _first_with(code: Ints, n_codes: int) -> Ints:
    """Place of the first of each code: [n_codes], -1 where there is none."""
    first = np.full(n_codes, -1, dtype=np.int64)
    first[code[::-1]] = np.arange(len(code) - 1, -1, -1)  # of places written to more than once, the last one stays
    return first
