"""A dataset for the Hugging Face hub: tables as Parquet with a card, uploaded only where a repository is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from foreshock.analysis.exporting.parquet import write_parquet
from foreshock.analysis.exporting.spec import ExporterSpec, OnProgress
from foreshock.analysis.tables.load import run_name
from foreshock.errors import InputError

_CARD = """
# {name}

A run of foreshock: how easily checkpoints of one training run are led to exploit weak tests.
{tables}

**Rows hold a model's own output**, code that games tests included. Columns are those of foreshock's docs/formats.md;
`checkpoint` is text (`final` has no number); a null verdict was not reached and is no failure.
"""


def write_hub(run_dir: Path, folder: Path, on_progress: OnProgress) -> list[Path]:
    """README.md, one Parquet file per kind of row below data/, and the report."""
    data = folder / "data"
    data.mkdir()
    written = write_parquet(run_dir, data, on_progress)
    head = {
        "pretty_name": run_name(run_dir),
        "tags": ["foreshock", "reward-hacking"],
        "configs": [{"config_name": path.stem, "data_files": f"data/{path.name}"} for path in written],
    }
    tables = "\n".join(f"- `{path.stem}`" for path in written)
    card = folder / "README.md"
    text = f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n{_CARD.format(name=run_name(run_dir), tables=tables)}"
    card.write_text(text)
    report = run_dir / "report.html"
    if report.is_file():
        shutil.copyfile(report, folder / "report.html")
        written.append(folder / "report.html")
    return [card, *written]


def send_hub(run_dir: Path, folder: Path, target: str) -> str:
    """Upload the folder as a dataset; a repository that is made for it is private. Returns its address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        api.create_repo(target, repo_type="dataset", private=True, exist_ok=True)
        done = api.upload_folder(
            repo_id=target, folder_path=folder, repo_type="dataset", commit_message=f"foreshock: {run_name(run_dir)}"
        )
    except HFValidationError as error:
        raise InputError(f"{target!r} is no repository's name: {error}", fix="--upload USER/NAME") from None
    except (HfHubHTTPError, OSError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"the hub refuses {target}: {said[0]}",
            fix="hf auth login; then `hf upload --repo-type dataset REPOSITORY FOLDER` sends what was written",
        ) from None
    return str(done)


SPEC = ExporterSpec(
    "hub",
    "a dataset for the Hugging Face hub; --upload USER/NAME sends it",
    write_hub,
    send_hub,
    "repository USER/NAME",
)
