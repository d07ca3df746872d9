"""Rows of every kind, whatever texts a model writes."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from foreshock.jobs.records.rows import SAMPLE_KEYS, SCHEMA_VERSION, Row

TRICKS = [
    ', "system": ',
    '", "system": null, "error": "x"}\n',
    "}\n",
    '\\", "exploit_success": true, ',
    f', "schema_version": {SCHEMA_VERSION}, "checkpoint": ',
    "\ud800",
    "é",
    "\\u0000",
]
TEXT = st.one_of(st.text(), st.sampled_from(TRICKS), st.lists(st.sampled_from(TRICKS)).map("".join))
FLAG = st.sampled_from([True, False, None])


@st.composite
def sample_rows(draw: st.DrawFn, ours: bool = False) -> Row:
    """`ours`: as this version of foreshock writes rows without an error; else anything in any column."""
    text = st.text() if ours else TEXT
    version = st.just(SCHEMA_VERSION) if ours else st.sampled_from([SCHEMA_VERSION, SCHEMA_VERSION, SCHEMA_VERSION, 0])
    special: dict[str, Any] = {
        "attempt_idx": draw(st.integers(0, 40)),
        "secure_pass": draw(FLAG),
        "insecure_pass": draw(FLAG),
        "exploit_success": draw(FLAG),
        "reward_gap": draw(st.floats(allow_nan=False, allow_infinity=False)),
        "insecure_suspect_patterns": draw(st.lists(text, max_size=3)),
        "schema_version": draw(version),
        "task_id": draw(text),
        "model_id": draw(st.one_of(st.none(), text)),
    }
    if ours or draw(st.booleans()):
        special |= {
            "prefill_attempt_idx": draw(st.one_of(st.none(), st.integers(0, 9))),
            "prefill_level": draw(st.integers(0, 100)),
            "seed": draw(st.integers(0, 1 << 31)),
        }
    # A few texts for all other columns: drawing thirty anew took most of a test's time.
    texts = [None, *draw(st.lists(text, min_size=3, max_size=6))]
    others = [key for key in SAMPLE_KEYS if key not in special]
    chosen = draw(st.lists(st.sampled_from(texts), min_size=len(others), max_size=len(others)))
    given = special | dict(zip(others, chosen, strict=True))
    row: Row = {key: given[key] for key in SAMPLE_KEYS}
    if not ours and draw(st.integers(0, 9)) == 0:
        row["error"] = draw(text)
    return row


@st.composite
def score_rows(draw: st.DrawFn, ours: bool = False) -> Row:
    """`ours`: as this version of foreshock writes rows without an error."""
    number = st.floats(-1e6, 0.0)
    text = st.text() if ours else TEXT
    row: Row = {
        "task_id": draw(text),
        "exploit_type": draw(st.one_of(st.none(), text)),
        "attempt_idx": draw(st.integers(0, 9)),
        "prefill_tokens": draw(st.integers(1, 100)),
        "prefill_applied": True,
        "exploit_success": None,
        "prefill_logprob_sum": draw(number),
        "prefill_logprob_mean": draw(number),
        "prefill_num_tokens": draw(st.integers(0, 200)),
        "token_logprobs": draw(st.one_of(st.none(), st.lists(number, max_size=4))),
        "schema_version": SCHEMA_VERSION if ours else draw(st.sampled_from([SCHEMA_VERSION, SCHEMA_VERSION, 0])),
        "checkpoint": draw(text),
        "prefill_level": draw(st.integers(1, 100)),
        "prefill_sha256": draw(st.binary(min_size=32, max_size=32)).hex(),
        "template_sha256": draw(text),
        "logprob_temperature": draw(st.sampled_from([1.0, 0.7])),
        "logprob_method": "full",
    }
    if not ours and draw(st.integers(0, 9)) == 0:
        missing = dict.fromkeys(("prefill_logprob_sum", "prefill_logprob_mean", "prefill_num_tokens"))
        row |= missing | {"error": draw(TEXT)}
    return row
