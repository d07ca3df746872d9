"""The configuration document is made from the schema and is up to date."""

from __future__ import annotations

from pathlib import Path

from foreshock.batch.cli.config_docs import render


def test_the_document_in_the_repository_is_what_the_schema_says() -> None:
    document = Path(__file__).parents[3] / "docs" / "configuration.md"
    assert document.read_text() == render(), "run: make docs"
