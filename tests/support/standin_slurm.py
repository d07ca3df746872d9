"""Slurm's programs as stand-ins: what they were asked, what they answer. The real ones are in tests/slurm/cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_SBATCH = """#!/bin/sh
# Takes a job, unless its script holds what the file `refuse` says; prints what no parser understands.
for last; do :; done
name=$(sed -n 's/^#SBATCH --job-name=//p' "$last")
if [ -s {folder}/refuse ] && grep -qf {folder}/refuse "$last"; then
  echo "sbatch: error: Batch job submission failed: Invalid account" >&2
  exit 1
fi
n=$(wc -l < {folder}/queue)
array=$(sed -n 's/^#SBATCH --array=.*/_[0-9]/p' "$last")
echo "$((100 + n))$array|$name|PENDING|0:00||Priority" >> {folder}/queue
echo "$last" >> {folder}/submitted
echo "thank you"
"""
_SQUEUE = """#!/bin/sh
if [ -e {folder}/silent ]; then echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; fi
cat {folder}/queue
"""


class Cluster:
    """What the stand-ins were asked and what they answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.queue.write_text("")

    @property
    def queue(self) -> Path:
        return self.folder / "queue"

    @property
    def submitted(self) -> list[str]:
        path = self.folder / "submitted"
        return [Path(line).stem for line in path.read_text().split()] if path.exists() else []

    def refuse(self, text: str) -> None:
        (self.folder / "refuse").write_text(text)


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    folder = tmp_path / "cluster"
    (folder / "bin").mkdir(parents=True)
    texts = {"sbatch": _SBATCH, "squeue": _SQUEUE, "sacct": "#!/bin/sh\nexit 1\n", "sacctmgr": "#!/bin/sh\nexit 1\n"}
    for name, text in texts.items():
        (folder / "bin" / name).write_text(text.format(folder=folder))
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr("foreshock.slurm.submit._SETTLE_S", 0.0)
    return Cluster(folder)
