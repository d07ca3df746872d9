"""A sweep with everything switched on that makes rows, and the bytes of all its tables."""

from __future__ import annotations

from pathlib import Path

from foreshock.batch.config import RunConfig
from foreshock.batch.config_file import parse_config
from foreshock.jobs.records.table_files import table_bytes, table_names

FINAL_FOLDERS = ("evals", "logprob", "ref_logprob", "kl", "ground_truth", "exploit_logprob")


def full_config(
    root: Path,
    sft: Path,
    traces: Path,
    batch_size: int = 8,
    shard_tasks: int = 4,
    cluster: str = "inline",
    analysed: bool = False,
    bundle_from: int = 2000,
) -> RunConfig:
    """`analysed` adds what makes no rows: analyses and the report."""
    return parse_config(
        {
            "name": "test",
            "results_dir": str(root / "results"),
            "checkpoints": {"dir": str(sft / "checkpoints")},
            "problems": {"exploit_types": ["process_exit", "test_case_leak"]},
            "prefill": {"source": str(traces), "levels": [0, 2, 10], "assignment": "per_attempt"},
            "sampling": {"attempts": 2, "max_tokens": 12},
            "prompt": {"instructions": "bare"},
            "engine": {"device": "cpu", "dtype": "float32", "batch_size": batch_size, "threads": 1},
            "logprob": {
                "reference": str(sft / "checkpoints" / "checkpoint-4"),
                "exploit_code": True,
                "honest_reasoning": str(traces),
            },
            "ground_truth": {"attempts": 3, "steps": [4]},
            "analysis": {"enabled": analysed},
            "execution": {
                "cluster": cluster,
                "shard_tasks": shard_tasks,
                "workers": 1 if cluster == "inline" else 2,
                "bundle_from": bundle_from,
            },
        }
    )


def tables(root: Path) -> dict[str, bytes]:
    """Every final table of a run, in files of their own or in archives."""
    return {
        f"{folder}/{name}": table_bytes(root / folder / name)
        for folder in FINAL_FOLDERS
        for name in table_names(root / folder)
        if name.endswith(".jsonl")
    }
