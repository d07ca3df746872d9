"""Lines of scoring shards as lines of tables: a score with its outcome, and what two scores of a prefill differ by.

As in `lines`, lines that foreshock wrote under the present schema version are cut, not decoded.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from foreshock.analysis.aggregate.texts import NULL, as_floats, plain_texts, to_json
from foreshock.analysis.aggregate.values import LineFormat, Values
from foreshock.jobs.records.jsonl import encode_rows
from foreshock.jobs.records.rows import ERROR_KEY, KL_KEYS, LOGPROB_KEYS, SCHEMA_VERSION, Row, select_keys

KL_METHOD = "monte_carlo_prefill"

_FORMAT = LineFormat(LOGPROB_KEYS)
_OUTCOME = "exploit_success"
_KEPT = tuple(key for key in LOGPROB_KEYS if key not in (_OUTCOME, "token_logprobs"))
_PRESENT = [b"%d" % SCHEMA_VERSION]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Rows of a scoring spec; their lines lack the outcome, which only the evaluation knows. All are [n_rows].

    `texts` are columns as JSON has them, `error` only where a row has one; `before` and `after` are the line around
    the outcome. `sums` is prefill_logprob_sum in nats, NaN where there is none.
    """

    texts: Mapping[str, pa.BinaryArray]
    before: pa.BinaryArray
    after: pa.BinaryArray
    sums: Floats

    @property
    def n_rows(self) -> int:
        """How many."""
        return len(self.sums)

    @property
    def n_errors(self) -> int:
        """Rows with an error instead of a score."""
        errors = self.texts.get(ERROR_KEY)
        return 0 if errors is None else pc.sum(pc.not_equal(errors, NULL)).as_py()

    def take(self, rows: npt.NDArray[np.int64]) -> Scores:
        """These rows."""
        places = pa.array(rows)
        texts = {key: column.take(places) for key, column in self.texts.items()}
        return Scores(texts, self.before.take(places), self.after.take(places), self.sums[rows])

    def lines(self, outcomes: pa.BinaryArray) -> pa.Buffer:
        """The lines, with the outcomes of the rows' continuations."""
        return _joined(self.before, outcomes, self.after)


def read_scores(block: bytes | memoryview) -> list[tuple[bytes, Scores]]:
    """Whole lines of a scoring shard: each level that they have, as JSON, and its rows in their order."""
    cut = _cut(block)
    return _decode(block) if cut is None else cut


def _cut(block: bytes | memoryview) -> list[tuple[bytes, Scores]] | None:
    """None if a line is not as this version writes it; one with an error has a key more."""
    values = _FORMAT.find(block)
    if values is None or values.texts("schema_version").unique().to_pylist() != _PRESENT:
        return None
    levels = values.texts("prefill_level").dictionary_encode()
    rows = [np.flatnonzero(levels.indices.to_numpy() == place) for place in range(len(levels.dictionary))]
    return list(zip(levels.dictionary.to_pylist(), map(_cut_scores, map(values.rows, rows)), strict=True))


def _cut_scores(values: Values) -> Scores:
    texts = {key: values.texts(key) for key in _KEPT}
    texts["task_id"] = plain_texts(texts["task_id"])
    return Scores(texts, *values.around(_OUTCOME), _sums(texts))


def _decode(block: bytes | memoryview) -> list[tuple[bytes, Scores]]:
    by_level: dict[bytes, list[Row]] = defaultdict(list)
    for line in bytes(block).splitlines():
        row: Row = json.loads(line)
        by_level[to_json(row.get("prefill_level"))].append(row)
    return [(level, _decoded_scores(rows)) for level, rows in by_level.items()]


def _decoded_scores(rows: Sequence[Row]) -> Scores:
    key = b', "%b": ' % _OUTCOME.encode()
    lines = [encode_rows([select_keys(row | {_OUTCOME: None}, LOGPROB_KEYS)]) for row in rows]
    before, after = zip(*(line.split(key + NULL, 1) for line in lines), strict=True)
    names = (*_KEPT, ERROR_KEY)
    texts = {name: pa.array([to_json(row.get(name)) for row in rows], pa.binary()) for name in names}
    sums = np.where([row.get(ERROR_KEY) is None for row in rows], _sums(texts), np.nan)
    return Scores(texts, pa.array([text + key for text in before], pa.binary()), pa.array(after, pa.binary()), sums)


def _sums(texts: Mapping[str, pa.BinaryArray]) -> Floats:
    return _floats(texts["prefill_logprob_sum"])


def _floats(texts: pa.BinaryArray) -> Floats:
    return np.asarray(as_floats(texts).to_numpy(zero_copy_only=False))


@dataclass(frozen=True)
class Divergences:
    """What scores of two models differ by, and the second one's, the last also as JSON: [n_rows] each.

    `kl` is log Q(z) - log P(z) in nats; `per_token`, of the prefill's tokens, is NaN where it has none.
    """

    kl: Floats
    per_token: Floats
    ref_sums: Floats
    ref_texts: pa.BinaryArray


def divergences(scores: Scores, ref_sums: Floats, ref_texts: pa.BinaryArray) -> Divergences:
    """Of scores that are there from those of the model that their prefills come from."""
    kl = ref_sums - scores.sums
    n_tokens = _floats(scores.texts["prefill_num_tokens"])
    per_token = np.divide(kl, n_tokens, out=np.full(len(kl), np.nan), where=n_tokens > 0)
    return Divergences(kl, per_token, ref_sums, ref_texts)


_KL_METHOD_JSON = b'"%b"' % KL_METHOD.encode()


def kl_lines(scores: Scores, outcomes: pa.BinaryArray, differing: Divergences) -> pa.Buffer:
    """Lines of a kl/ file, put together from their values' JSON in the order of `KL_KEYS`."""
    values = {
        **scores.texts,
        _OUTCOME: outcomes,
        "kl_divergence": _as_json(differing.kl),
        "kl_per_token": _as_json(differing.per_token),
        "kl_num_tokens": scores.texts["prefill_num_tokens"],
        "eval_logprob_sum": scores.texts["prefill_logprob_sum"],
        "ref_logprob_sum": differing.ref_texts,
        "kl_method": _KL_METHOD_JSON,
        "schema_version": _PRESENT[0],
    }
    pieces: list[bytes | pa.BinaryArray] = []
    for key in KL_KEYS:
        pieces += [b', "%b": ' % key.encode() if pieces else b'{"%b": ' % key.encode(), values[key]]
    return _joined(*pieces, b"}\n")


def _as_json(numbers: Floats) -> pa.BinaryArray:
    return pa.array([NULL if number != number else repr(number).encode() for number in numbers.tolist()], pa.binary())


def _joined(*pieces: bytes | pa.BinaryArray) -> pa.Buffer:
    """Row after row of these columns; a text stands for a column of it."""
    return pc.binary_join_element_wise(*pieces, b"").buffers()[2]
