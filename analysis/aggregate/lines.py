"""Lines of shards as lines of tables, without parsing them where that is not needed.

The one hard decision: a line that foreshock wrote under the present schema version is cut, not decoded. A quotation
mark inside a JSON string is always escaped, so a key between bare quotation marks is a key wherever it is found, and
the columns of a table follow each other on disk as in its key tuple. Any other line is decoded and written anew.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from foreshock.jobs.records.jsonl import encode_rows
from foreshock.jobs.records.rows import (
    ERROR_KEY,
    EVAL_KEYS,
    KL_KEYS,
    LOGPROB_KEYS,
    SAMPLE_KEYS,
    SCHEMA_VERSION,
    Row,
    select_keys,
)

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_TEXT = rb"(?:null|" + _STRING + rb")"
_FLAG = rb"(?:true|false|null)"
_NUMBER = rb"-?[0-9][0-9.eE+-]*"
_OUTCOME = "exploit_success"
NULL = b"null"
KL_METHOD = "monte_carlo_prefill"

_VERSION = b', "schema_version": %d, "checkpoint": ' % SCHEMA_VERSION
_AFTER_EVAL = b', "%s": ' % SAMPLE_KEYS[len(EVAL_KEYS)].encode()
_ERROR = b', "%s": ' % ERROR_KEY.encode()

_SAMPLE = re.compile(
    rb'\{"model_id": ' + _TEXT + rb', "task_id": (' + _STRING + rb'), "attempt_idx": ([0-9]+), "exploit_type": ' + _TEXT
    + rb', "secure_pass": ' + _FLAG + rb', "insecure_pass": ' + _FLAG + rb', "exploit_success": (' + _FLAG + rb"), "
)  # fmt: skip
_SCORE = re.compile(
    rb'\{"task_id": (' + _STRING + rb'), "exploit_type": (' + _TEXT + rb'), "attempt_idx": ([0-9]+), "prefill_tokens": '
    rb'([0-9]+), "prefill_applied": ' + _FLAG + rb', "exploit_success": (null), "prefill_logprob_sum": (' + _NUMBER
    + rb'), "prefill_logprob_mean": ' + _NUMBER + rb', "prefill_num_tokens": ([0-9]+), "token_logprobs": '
    rb"(?:null|\[[^\]]*\])" + re.escape(_VERSION) + rb"(" + _STRING + rb'), "prefill_level": ([0-9]+), '
    rb'"prefill_sha256": ("[0-9a-f]+"), '
)  # fmt: skip


class Outcome(NamedTuple):
    """Whether one attempt exploited. The first two as JSON has them: a score's row is found again by these bytes."""

    task_id: bytes
    attempt_idx: bytes
    exploit_success: bytes


class SampleLines(NamedTuple):
    """Rows of an eval spec, as its two tables have them."""

    n_rows: int
    n_errors: int
    eval_lines: bytes
    sample_lines: bytes
    outcomes: list[Outcome]


def read_samples(block: bytes, attempts_of_rollout: int | None = None) -> SampleLines:
    """Whole lines of an eval shard.

    With `attempts_of_rollout`, attempt indices beyond it are further rollouts of the same attempt, and the tables' rows
    say which; the indices of the outcomes are the shard's.
    """
    cut = _cut_samples(block) if attempts_of_rollout is None else None
    return cut or _decode_samples(block, attempts_of_rollout)


def _cut_samples(block: bytes) -> SampleLines | None:
    """None if a line is not as this version writes it."""
    if block.find(_ERROR) >= 0:
        return None
    heads: list[bytes] = []
    outcomes: list[Outcome] = []
    at, match, find = 0, _SAMPLE.match, block.find
    while at < len(block):
        head = match(block, at)
        if head is None:
            return None
        line_end = find(b"\n", head.end())
        end = find(_AFTER_EVAL, head.end(), line_end)
        if min(line_end, end) < 0 or find(_VERSION, head.end(), end) < 0 or not block.endswith(b"}", end, line_end):
            return None
        heads.append(block[at:end])
        task, attempt, exploit_success = head.groups()
        outcomes.append(Outcome(_plain(task), attempt, exploit_success))
        at = line_end + 1
    heads.append(b"")
    return SampleLines(len(outcomes), 0, b"}\n".join(heads), block, outcomes)


def _decode_samples(block: bytes, attempts_of_rollout: int | None) -> SampleLines:
    n_errors = 0
    outcomes: list[Outcome] = []
    eval_rows: list[Row] = []
    sample_rows: list[Row] = []
    more = () if attempts_of_rollout is None else ("rollout",)
    for line in block.splitlines():
        row: Row = json.loads(line)
        n_errors += row.get(ERROR_KEY) is not None
        outcomes.append(Outcome(*(_json(row.get(key)) for key in ("task_id", "attempt_idx", "exploit_success"))))
        if attempts_of_rollout is not None:
            row["rollout"], row["attempt_idx"] = divmod(row["attempt_idx"], attempts_of_rollout)
        eval_rows.append(select_keys(row, (*EVAL_KEYS, *more)))
        sample_rows.append(select_keys(row, (*SAMPLE_KEYS, *more)))
    return SampleLines(len(outcomes), n_errors, encode_rows(eval_rows), encode_rows(sample_rows), outcomes)


class ScoreLine(NamedTuple):
    """A row of a scoring spec; its line lacks the outcome, which only the evaluation knows.

    The fields of type bytes are JSON. `logprob_sum` is in nats; None where the row carries an error.
    """

    task_id: bytes
    exploit_type: bytes
    attempt_idx: bytes
    prefill_tokens: bytes
    n_tokens: bytes
    checkpoint: bytes
    level: bytes
    prefill_sha256: bytes
    logprob_sum: float | None
    is_error: bool
    before: bytes
    after: bytes

    def with_outcome(self, exploit_success: bytes) -> bytes:
        """The line, with the outcome of the row's continuation."""
        return self.before + exploit_success + self.after


def read_score(line: bytes) -> ScoreLine:
    """A line of a scoring shard."""
    found = _SCORE.match(line)
    if found is None or line.find(_ERROR, found.end()) >= 0:
        return _decode_score(json.loads(line))
    task, exploit_type, attempt, words, _, total, n_tokens, checkpoint, level, sha = found.groups()
    before, after = line[: found.start(5)], line[found.end(5) :]
    return ScoreLine(
        _plain(task), exploit_type, attempt, words, n_tokens, checkpoint, level, sha, float(total), False, before, after
    )


def _decode_score(row: Row) -> ScoreLine:
    line = encode_rows([select_keys(row | {_OUTCOME: None}, LOGPROB_KEYS)])
    before, key, after = line.partition(b', "%s": ' % _OUTCOME.encode())
    failed = row.get(ERROR_KEY) is not None
    return ScoreLine(
        task_id=_json(row["task_id"]),
        exploit_type=_json(row.get("exploit_type")),
        attempt_idx=_json(row["attempt_idx"]),
        prefill_tokens=_json(row["prefill_tokens"]),
        n_tokens=_json(row.get("prefill_num_tokens")),
        checkpoint=_json(row["checkpoint"]),
        level=_json(row["prefill_level"]),
        prefill_sha256=_json(row["prefill_sha256"]),
        logprob_sum=None if failed else row.get("prefill_logprob_sum"),
        is_error=failed,
        before=before + key,
        after=after.removeprefix(b"null"),
    )


def _json(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(value).encode()


def _plain(quoted: bytes) -> bytes:
    """A JSON string as `_json` has it: in a row with a lone surrogate, what is not ASCII is escaped."""
    return _json(json.loads(quoted)) if b"\\" in quoted else quoted


_KL_LINE = b"{" + b", ".join(b'"%s": %%(%s)b' % (key.encode(), key.encode()) for key in KL_KEYS) + b"}\n"
_KL_METHOD_JSON = b'"%s"' % KL_METHOD.encode()
_SCHEMA_VERSION_JSON = b"%d" % SCHEMA_VERSION


def kl_line(score: ScoreLine, outcome: bytes, donor_sum: float) -> bytes:
    """A line of a kl/ file, put together from its values' JSON."""
    assert score.logprob_sum is not None
    kl = donor_sum - score.logprob_sum
    n_tokens = 0 if score.n_tokens == NULL else int(score.n_tokens)
    return _KL_LINE % {
        b"task_id": score.task_id,
        b"exploit_type": score.exploit_type,
        b"attempt_idx": score.attempt_idx,
        b"prefill_tokens": score.prefill_tokens,
        b"exploit_success": outcome,
        b"kl_divergence": _float(kl),
        b"kl_per_token": _float(kl / n_tokens) if n_tokens else NULL,
        b"kl_num_tokens": score.n_tokens,
        b"eval_logprob_sum": _float(score.logprob_sum),
        b"ref_logprob_sum": _float(donor_sum),
        b"kl_method": _KL_METHOD_JSON,
        b"schema_version": _SCHEMA_VERSION_JSON,
        b"checkpoint": score.checkpoint,
        b"prefill_level": score.level,
        b"prefill_sha256": score.prefill_sha256,
    }


def _float(value: float) -> bytes:
    return repr(value).encode()
