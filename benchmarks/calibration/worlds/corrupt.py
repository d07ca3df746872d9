"""Sweeps whose inputs are wrong: what a temperature mistake, a wrong join or a wrong tokenisation leaves behind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from benchmarks.calibration.worlds.sweep import Array, Rng

from foreshock.analysis.evidence.evidence import Evidence, PrefillRows

FAULTS = ("scaled 0.6", "scaled 1.4", "mispaired", "noise")


def corrupted(rng: Rng, evidence: Evidence, fault: str) -> Evidence:
    """`evidence` with log weights as the fault leaves them; log P moves along: the donor's side stays as it was.

    Mispaired: within each cell the rows have each other's weights; all cells of a type by one permutation of traces, as
    a wrong join does it, or each by its own.
    """
    rows = evidence.rows
    log_w = rows.log_w
    if fault.startswith("scaled"):
        log_w = log_w * float(fault.split()[1])
    elif fault == "noise":
        log_w = log_w + rng.normal(0, 2.0, len(rows))
    elif fault == "mispaired":
        log_w = _mispaired(rng, rows)
    else:
        raise ValueError(f"{fault!r} is not a fault; valid: {', '.join(FAULTS)}")
    return replace(evidence, rows=replace(rows, log_w=log_w, log_p=rows.log_p + log_w - rows.log_w))


def _mispaired(rng: Rng, rows: PrefillRows) -> Array:
    cell = np.unique((rows.surface * 1000 + rows.checkpoint) * 1000 + rows.level, return_inverse=True)[1]
    key = rng.permutation(int(rows.trace.max()) + 1)[rows.trace] if rng.random() < 0.5 else rng.random(len(rows))
    straight, shuffled = np.lexsort((rows.trace, cell)), np.lexsort((key, cell))
    out = rows.log_w.copy()
    out[straight] = rows.log_w[shuffled]
    return out
