"""What belongs to a score: the outcome of its continuation, and the score of the same prefill under another model.

Rows are paired by their keys' JSON, as sorted integers, many rows at a time; of rows with the same keys the last one
counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from foreshock.analysis.aggregate.lines import Outcomes
from foreshock.analysis.aggregate.scores import Floats, Scores
from foreshock.analysis.aggregate.texts import NULL

_OF_PREFILL = ("prefill_level", "task_id", "attempt_idx")
_SUM = "prefill_logprob_sum"
_BINARY = pa.binary()

Ints = npt.NDArray[np.int64]


class KnownOutcomes:
    """Outcomes of a checkpoint's attempts."""

    def __init__(self, levels: Mapping[bytes, Sequence[Outcomes]]) -> None:
        self._levels = {level: _OutcomesOfLevel(attempts) for level, attempts in levels.items() if attempts}

    def of(self, level: bytes, scores: Scores) -> pa.BinaryArray:
        """exploit_success of each score's continuation at `level`, as JSON; null where it is not known."""
        known = self._levels.get(level)
        return no_outcomes(scores.n_rows) if known is None else known.of(scores)


class _OutcomesOfLevel:
    def __init__(self, attempts: Sequence[Outcomes]) -> None:
        tasks, indices, told = (pa.concat_arrays(column) for column in zip(*attempts, strict=True))
        self._rows = _Index([tasks, indices])
        self._told = told

    def of(self, scores: Scores) -> pa.BinaryArray:
        places = self._rows.find([scores.texts["task_id"], scores.texts["attempt_idx"]])
        return pc.fill_null(_take(self._told, places), NULL)


class References:
    """The scores of prefills under the model that they come from."""

    def __init__(self, scores: Iterable[Scores]) -> None:
        names = (*_OF_PREFILL, "prefill_sha256", _SUM)
        blocks = [([block.texts[name] for name in names], block.sums) for block in scores]
        columns = [[pa.array([], _BINARY), *(texts[place] for texts, _ in blocks)] for place in range(len(names))]
        *keys, self._sha256, self._texts = map(pa.concat_arrays, columns)
        self._sums = np.concatenate([np.empty(0), *(sums for _, sums in blocks)])
        self._rows = _Index(keys)

    def of(self, scores: Scores) -> tuple[Floats, pa.BinaryArray]:
        """prefill_logprob_sum of each score's prefill, and as JSON; NaN and null where it has no second score."""
        places = self._rows.find([scores.texts[name] for name in _OF_PREFILL])
        same = pc.fill_null(pc.equal(_take(self._sha256, places), scores.texts["prefill_sha256"]), False)
        places = np.where(same.to_numpy(zero_copy_only=False), places, -1)
        return np.append(self._sums, np.nan)[places], pc.fill_null(_take(self._texts, places), NULL)


class _Index:
    """Places of rows by several keys."""

    def __init__(self, keys: Sequence[pa.BinaryArray]) -> None:
        self._codes: list[dict[bytes, int]] = []
        code = np.zeros(len(keys[0]), dtype=np.int64)
        for key in keys:
            coded = key.dictionary_encode()
            self._codes.append({text: number for number, text in enumerate(coded.dictionary.to_pylist())})
            code = code * len(coded.dictionary) + coded.indices.to_numpy()
        self._order = np.argsort(code, kind="stable")
        self._sorted = code[self._order]

    def find(self, keys: Sequence[pa.BinaryArray]) -> Ints:
        """The row with these keys, -1 where there is none: [len(keys[0])]."""
        code, known = np.zeros(len(keys[0]), dtype=np.int64), np.ones(len(keys[0]), dtype=np.bool_)
        for codes, key in zip(self._codes, keys, strict=True):
            coded = key.dictionary_encode()
            numbers = np.array([codes.get(text, -1) for text in coded.dictionary.to_pylist()], dtype=np.int64)
            number = numbers[coded.indices.to_numpy()]
            known &= number >= 0
            code = code * len(codes) + number
        last = np.searchsorted(self._sorted, code, side="right") - 1
        known &= last >= 0
        known[known] = self._sorted[last[known]] == code[known]
        return np.where(known, self._order[last], -1) if len(self._order) else np.full(len(code), -1)


def _take(column: pa.BinaryArray, places: Ints) -> pa.BinaryArray:
    """Null where a place is -1."""
    return column.take(pa.array(places, mask=places < 0))


def no_outcomes(n_rows: int) -> pa.BinaryArray:
    """Of scores without an evaluation: null, as JSON."""
    return pa.repeat(pa.scalar(NULL, _BINARY), n_rows)
