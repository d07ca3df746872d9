"""How many GPUs a job gets: Slurm has a dozen ways to ask for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_OPTIONS = frozenset({"gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket"})
_LISTS = frozenset({"gres", "tres-per-node", "tres-per-task", "tres-per-job", "tres-per-socket"})
_GPU = re.compile(r"^(?:gres[/:])?gpu(?:[:=/](?P<rest>.*))?$", re.IGNORECASE)
_SHARE = re.compile(r"(?:^|[,/:])(?:shard|mps)[:=]", re.IGNORECASE)


def asked_gpus(per_node: int, gres: str | None, sbatch: Mapping[str, Any]) -> int:
    """GPUs of a job of one task on one node; `sbatch` by long names (`sbatch_options`)."""
    counts = [count_gres(gres)] if gres else []
    for name, value in sbatch.items():
        if name in _LISTS:
            counts.append(count_gres(str(value)))
        elif name in _OPTIONS:
            counts.append(sum(_count(part) for part in str(value).split(",")))
    return max(counts, default=0) or per_node


def gpu_requests(per_node: Any, gres: Any, sbatch: Mapping[str, Any]) -> list[str]:
    """Keys of a profile that ask for GPUs; `gpus_per_node` beside `gres` counts once, since `gres` replaces it."""
    asked = [f"sbatch.{name}" for name, value in sbatch.items() if _asks(name, str(value))]
    own = "gres" if isinstance(gres, str) and count_gres(gres) else "gpus_per_node" if per_node else None
    return [own, *asked] if own and asked else asked


def count_gres(text: str) -> int:
    """GPUs in a list such as `gpu:a100:2,lscratch:100`; a MIG slice is one, and so are shares of one GPU."""
    total = 0
    for part in re.sub(r"\([^)]*\)", "", text).split(","):  # (S:0-1) names sockets
        match = _GPU.match(part.strip())
        if match is not None:
            total += _count(match["rest"] or "1")
    return total or int(bool(_SHARE.search(text)))


def _asks(name: str, value: str) -> bool:
    return bool(count_gres(value)) if name in _LISTS else name in _OPTIONS


def _count(text: str) -> int:
    """The number at the end of `2`, `a100:2` or `a100=2`; a type alone is one."""
    last = re.split(r"[:=]", text.strip())[-1]
    return int(last) if last.isascii() and last.isdigit() else 1
