"""Lines of scoring shards as lines of tables: a score with its outcome, and what two scores of a prefill differ by.

As in `lines`, a line that foreshock wrote under the present schema version is cut, not decoded.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from foreshock.analysis.aggregate.lines import ERROR, FLAG, NULL, STRING, TEXT, VERSION, plain, to_json
from foreshock.jobs.records.jsonl import encode_rows
from foreshock.jobs.records.rows import ERROR_KEY, KL_KEYS, LOGPROB_KEYS, SCHEMA_VERSION, Row, select_keys

KL_METHOD = "monte_carlo_prefill"
_OUTCOME = "exploit_success"
_NUMBER = rb"-?[0-9][0-9.eE+-]*"
_LINE = re.compile(
    rb'\{"task_id": (' + STRING + rb'), "exploit_type": (' + TEXT + rb'), "attempt_idx": ([0-9]+), "prefill_tokens": '
    rb'([0-9]+), "prefill_applied": (' + FLAG + rb'), "exploit_success": (null), "prefill_logprob_sum": (' + _NUMBER
    + rb'), "prefill_logprob_mean": (' + _NUMBER + rb'), "prefill_num_tokens": ([0-9]+), "token_logprobs": '
    rb"(?:null|\[[^\]]*\])" + re.escape(VERSION) + rb"(" + STRING + rb'), "prefill_level": ([0-9]+), '
    rb'"prefill_sha256": ("[0-9a-f]+"), '
)  # fmt: skip


class ScoreTexts(NamedTuple):
    """Columns of a score, as JSON has them."""

    task_id: bytes
    exploit_type: bytes
    attempt_idx: bytes
    prefill_tokens: bytes
    prefill_applied: bytes
    logprob_sum: bytes
    logprob_mean: bytes
    n_tokens: bytes
    prefill_sha256: bytes
    error: bytes


SCORE_COLUMNS = (
    "task_id",
    "exploit_type",
    "attempt_idx",
    "prefill_tokens",
    "prefill_applied",
    "prefill_logprob_sum",
    "prefill_logprob_mean",
    "prefill_num_tokens",
    "prefill_sha256",
    "error",
)
"""What the tables call them."""


class ScoreLine(NamedTuple):
    """A row of a scoring spec; its line lacks the outcome, which only the evaluation knows.

    `checkpoint` and `level` are JSON. `sum` is prefill_logprob_sum in nats; None where the row carries an error.
    """

    texts: ScoreTexts
    checkpoint: bytes
    level: bytes
    sum: float | None
    before: bytes
    after: bytes

    def with_outcome(self, exploit_success: bytes) -> bytes:
        """The line, with the outcome of the row's continuation."""
        return self.before + exploit_success + self.after


def read_score(line: bytes) -> ScoreLine:
    """A line of a scoring shard."""
    found = _LINE.match(line)
    if found is None or line.find(ERROR, found.end()) >= 0:
        return _decode(json.loads(line))
    task, exploit_type, attempt, words, applied, _, total, mean, n_tokens, checkpoint, level, sha = found.groups()
    texts = ScoreTexts(plain(task), exploit_type, attempt, words, applied, total, mean, n_tokens, sha, NULL)
    return ScoreLine(texts, checkpoint, level, float(total), line[: found.start(6)], line[found.end(6) :])


def _decode(row: Row) -> ScoreLine:
    line = encode_rows([select_keys(row | {_OUTCOME: None}, LOGPROB_KEYS)])
    before, key, after = line.partition(b', "%s": ' % _OUTCOME.encode())
    failed = row.get(ERROR_KEY) is not None
    texts = ScoreTexts(*(to_json(row.get(name)) for name in SCORE_COLUMNS))
    total = None if failed else row.get("prefill_logprob_sum")
    place = to_json(row["checkpoint"]), to_json(row["prefill_level"])
    return ScoreLine(texts, *place, total, before + key, after.removeprefix(NULL))


class Divergence(NamedTuple):
    """log Q(z) - log P(z) in nats, the same per token of the prefill, and log Q(z)."""

    kl: float
    per_token: float | None
    ref_sum: float


def divergence(score: ScoreLine, ref_sum: float) -> Divergence:
    """Of a score that is there from that of the model the prefill comes from."""
    assert score.sum is not None
    kl = ref_sum - score.sum
    n_tokens = 0 if score.texts.n_tokens == NULL else int(score.texts.n_tokens)
    return Divergence(kl, kl / n_tokens if n_tokens else None, ref_sum)


_KL_LINE = b"{" + b", ".join(b'"%b": %%b' % key.encode() for key in KL_KEYS) + b"}\n"
_KL_METHOD_JSON = b'"%b"' % KL_METHOD.encode()
_SCHEMA_VERSION_JSON = b"%d" % SCHEMA_VERSION


def kl_line(score: ScoreLine, outcome: bytes, differing: Divergence) -> bytes:
    """A line of a kl/ file, put together from its values' JSON in the order of `KL_KEYS`."""
    texts = score.texts
    return _KL_LINE % (
        texts.task_id,
        texts.exploit_type,
        texts.attempt_idx,
        texts.prefill_tokens,
        outcome,
        repr(differing.kl).encode(),
        NULL if differing.per_token is None else repr(differing.per_token).encode(),
        texts.n_tokens,
        texts.logprob_sum,
        repr(differing.ref_sum).encode(),
        _KL_METHOD_JSON,
        _SCHEMA_VERSION_JSON,
        score.checkpoint,
        score.level,
        texts.prefill_sha256,
    )
