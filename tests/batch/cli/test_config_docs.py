"""The documents of configuration and Slurm profiles are made from their schemas and are up to date."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from foreshock.batch.cli import config_docs, profile_docs
from foreshock.slurm.profile import ContainerProfile, Profile

DOCS = Path(__file__).parents[3] / "docs"


def test_the_documents_in_the_repository_are_what_the_schemas_say() -> None:
    assert (DOCS / "configuration.md").read_text() == config_docs.render(), "run: make docs"
    assert (DOCS / "slurm-profile.md").read_text() == profile_docs.render(), "run: make docs"


def test_every_profile_key_is_documented() -> None:
    document = profile_docs.render()
    for name in (*Profile.model_fields, *ContainerProfile.model_fields):
        assert f"| `{name}` |" in document
    assert "| `mem` | text or null | `null` | sbatch's `--mem` |" in document


def test_a_profile_key_is_documented_by_its_field() -> None:
    class More(Profile):
        licenses: str | None = Field(None, description="Licences that a job holds")

    assert "| `licenses` | text or null | `null` | Licences that a job holds |" in profile_docs.key_table(More)


def test_the_index_names_every_page() -> None:
    index = (DOCS / "index.md").read_text()
    assert [page.name for page in DOCS.glob("*.md") if page.name != "index.md" and f"({page.name})" not in index] == []
