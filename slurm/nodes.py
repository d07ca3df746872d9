"""Nodes on which elements fail at once, as the jobs' host side notes them below `slurm/nodes/` of a run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from foreshock.slurm.logs import failure_text


@dataclass(frozen=True, slots=True)
class BadNode:
    """A node, how many elements failed at once there, and what the newest of them said. `excluded`: it gets no more."""

    name: str
    failures: int
    excluded: bool
    said: str | None

    def __str__(self) -> str:
        done = "excluded" if self.excluded else "not excluded: it, or no other node, has done work"
        last = f": {self.said.splitlines()[0]}" if self.said else ""
        return f"{self.name}: {self.failures} elements failed at once ({done}){last}"


def bad_nodes(run_dir: Path) -> list[BadNode]:
    """Nodes of a run on which at least two elements failed at once, by name."""
    found = []
    for folder in sorted((run_dir / "slurm" / "nodes").glob("*/")):
        failed = sorted(folder.glob("failed-*"))
        elements = {path.name.rpartition("-")[0] for path in failed}
        if len(elements) >= 2:
            said = _said(run_dir, failed[-1].name)
            found.append(BadNode(folder.name, len(elements), (folder / "excluded").exists(), said))
    return found


def nodes_to_exclude(run_dir: Path) -> list[str]:
    """Nodes that the next submission keeps away from: excluded ones, and bad ones where another node did work."""
    worked = {path.parent.name for path in (run_dir / "slurm" / "nodes").glob("*/worked")}
    return [
        node.name for node in bad_nodes(run_dir) if node.excluded or (node.name not in worked and worked - {node.name})
    ]


def _said(run_dir: Path, mark: str) -> str | None:
    match = re.fullmatch(r"failed-(\d+(?:_\d+)?)-\d+", mark)
    logs = [] if match is None else sorted((run_dir / "logs" / "slurm").glob(f"*-{match[1]}.log"))
    return failure_text(logs[0]) if logs else None
