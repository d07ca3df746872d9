"""The documents of configuration and Slurm profiles are made from their schemas and are up to date."""

from __future__ import annotations

from pathlib import Path

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
