"""The columns of the files that foreshock writes."""

from __future__ import annotations

from pathlib import Path

from foreshock.analysis.tables.jsonl import read_jsonl
from foreshock.analysis.tables.schema import row_schema
from foreshock.jobs.evaluate import verdict_fields
from foreshock.jobs.records.jsonl import write_jsonl
from foreshock.jobs.records.rows import (
    ERROR_KEY,
    EVAL_FIELDS,
    EVAL_KEYS,
    EXPLOIT_LOGPROB_FIELDS,
    KL_FIELDS,
    LOGPROB_FIELDS,
    LOGPROB_KEYS,
    SAMPLE_FIELDS,
    SAMPLE_KEYS,
    SCHEMA_VERSION,
    Field,
    FieldType,
    Owner,
    keys_of,
    select_keys,
    text_sha256,
)
from foreshock.jobs.verify.base import Outcome, SandboxTier, Verdict, Verification


def test_samples_are_evals_with_more_columns_after_them() -> None:
    assert SAMPLE_KEYS[: len(EVAL_KEYS)] == EVAL_KEYS


def test_columns_change_only_with_the_schema_version() -> None:
    """Tables are cut from shards' lines by their columns, so a line of other columns needs another version."""
    columns = text_sha256(" ".join((*SAMPLE_KEYS, "/", *LOGPROB_KEYS)))[:12]
    assert (SCHEMA_VERSION, columns) == (4, "00c9962801d1")


def test_no_table_has_two_fields_of_one_name() -> None:
    for fields in (SAMPLE_FIELDS, LOGPROB_FIELDS, KL_FIELDS, EXPLOIT_LOGPROB_FIELDS):
        for names in ([field.name for field in fields], row_schema(fields, ("task_id",)).fields.names):
            assert len(names) == len(set(names))


def test_a_verification_fills_the_fields_that_are_its_own() -> None:
    verification = Verification(Verdict(Outcome.INFRA_ERROR), Verdict(Outcome.PASSED), SandboxTier.FULL)
    owned = {field.name for field in SAMPLE_FIELDS if field.owner is Owner.VERIFIER}
    assert verdict_fields(verification).keys() == owned | {ERROR_KEY}


def test_details_hold_nothing_that_changes_from_process_to_process() -> None:
    wrong = Verdict(Outcome.FAILED, "case 1: got <submission.Same object at 0x7fe9a48da990>, expected 3")
    fields = verdict_fields(Verification(wrong, Verdict(Outcome.PASSED), SandboxTier.FULL))
    assert fields["secure_detail"] == "case 1: got <submission.Same object at 0x...>, expected 3"
    assert fields["insecure_detail"] is None


def test_a_field_added_to_the_table_is_written_and_read(tmp_path: Path) -> None:
    fields = (*EVAL_FIELDS, Field("answer_chars", FieldType.WHOLE, Owner.ENGINE, "Characters of it", read=True))
    path = tmp_path / "checkpoint-1_prefill0.jsonl"
    row = {"task_id": "a", "exploit_success": True, "answer_chars": 12}
    write_jsonl(path, [select_keys(row, keys_of(fields))])
    schema = row_schema(fields, ("task_id", "exploit_success"))
    assert read_jsonl(path, schema.fields, schema.required)["answer_chars"].to_pylist() == [12]
