"""The document of file formats is made from the table of fields and is up to date."""

from __future__ import annotations

from pathlib import Path

from foreshock.jobs.records.format_docs import field_table, render
from foreshock.jobs.records.rows import EVAL_FIELDS, Field, FieldType, Owner


def test_the_document_in_the_repository_is_what_the_table_says() -> None:
    document = Path(__file__).parents[3] / "docs" / "formats.md"
    assert document.read_text() == render(), "run: make docs"


def test_a_field_is_documented_by_its_entry_in_the_table() -> None:
    field = Field("answer_chars", FieldType.WHOLE, Owner.ENGINE, "Characters of the answer", read=True)
    table = field_table((*EVAL_FIELDS, field))
    assert "| `answer_chars` | whole number | engine | yes | Characters of the answer |" in table
