"""The columns of the files that foreshock writes."""

from __future__ import annotations

from foreshock.jobs.records.rows import EVAL_KEYS, LOGPROB_KEYS, SAMPLE_KEYS, SCHEMA_VERSION, text_sha256


def test_samples_are_evals_with_more_columns_after_them() -> None:
    assert SAMPLE_KEYS[: len(EVAL_KEYS)] == EVAL_KEYS


def test_columns_change_only_with_the_schema_version() -> None:
    """Tables are cut from shards' lines by their columns, so a line of other columns needs another version."""
    columns = text_sha256(" ".join((*SAMPLE_KEYS, "/", *LOGPROB_KEYS)))[:12]
    assert (SCHEMA_VERSION, columns) == (1, "fb0a9e28c882")
