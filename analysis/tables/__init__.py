"""Reading run directories, ours or another tool's, into typed tables.

    load_evals(run_dir)         one row per sampled attempt
    load_logprobs(run_dir)      one row per scored prefix, under the checkpoint
    load_ref_logprobs(run_dir)  the same under the donor
    load_kl(run_dir)            log Q(z) - log P(z) per prefix
    count_tasks(run_dir)        n attempts and k exploits per (task, checkpoint, level), in bounded memory
    count_cells(run_dir)        the same per (exploit type, checkpoint, level)

`checkpoint` is the training step as an integer; where a run holds a `final` checkpoint the column is float and
`final` is infinity, so that it sorts last and cannot pass for a step. `prefill_level` is the number of words asked
for (from the file's name), `prefill_tokens` the number of words applied.
"""

from __future__ import annotations

from foreshock.analysis.tables.counts import Counts, count_cells, count_tasks, read_counts
from foreshock.analysis.tables.load import (
    Loaded,
    load_evals,
    load_ground_truth,
    load_kl,
    load_kl_sample,
    load_logprobs,
    load_ref_logprobs,
    numbered_checkpoints,
    read_sampled,
    read_table,
)
from foreshock.analysis.tables.read_report import CellRead, ReadReport
from foreshock.analysis.tables.schema import FINAL, TableKind, checkpoint_label

__all__ = [
    "FINAL",
    "CellRead",
    "Counts",
    "Loaded",
    "ReadReport",
    "TableKind",
    "checkpoint_label",
    "count_cells",
    "count_tasks",
    "load_evals",
    "load_ground_truth",
    "load_kl",
    "load_kl_sample",
    "load_logprobs",
    "load_ref_logprobs",
    "numbered_checkpoints",
    "read_counts",
    "read_sampled",
    "read_table",
]
