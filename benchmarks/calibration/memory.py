"""A simulated experiment as Evidence, without files: what the calibration harness feeds to the estimators."""

from __future__ import annotations

import numpy as np
from benchmarks.calibration.arrays import Array
from benchmarks.calibration.experiment import SimulatedExperiment, SimulatedType
from numpy.typing import NDArray

from foreshock.analysis.evidence.donor import smoothed_rates
from foreshock.analysis.evidence.evidence import DirectRows, DonorKind, Evidence, PrefillRows, Surface


def _correction(kind: SimulatedType) -> Array:
    """log(pi / a) of every trace and level: [L, Z]."""
    rollouts = kind.donor_level0.shape[-1]
    pi = smoothed_rates(
        kind.donor_level0.sum(-1), np.full(kind.n_tasks, rollouts), np.zeros(kind.n_tasks, dtype=np.int64)
    )
    k = kind.donor_rollouts.sum(-1)
    n_levels, n_traces = k.shape
    level = np.repeat(np.arange(n_levels), n_traces)
    a = smoothed_rates(k.reshape(-1), np.full(k.size, kind.donor_rollouts.shape[-1]), level).reshape(k.shape)
    return np.asarray(np.log(pi)[kind.task][None] - np.log(a))


def to_evidence(experiment: SimulatedExperiment) -> tuple[Evidence, Array]:
    """(evidence, true rates [J, C]) of an experiment; surfaces run by run, types in order."""
    regime = experiment.regime
    n_runs, n_checks = len(regime.runs), len(regime.checkpoints)
    positive = [level for level in regime.levels if level > 0]
    has0 = len(positive) < len(regime.levels)
    shape = (n_runs * len(experiment.types), n_checks, len(regime.levels))
    n, k = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    truth = np.zeros(shape[:2])
    parts: list[list[Array]] = []
    for t, kind in enumerate(experiment.types):
        log_w = kind.log_p - kind.log_q[:, None, None]
        if regime.donor_conditioned:
            log_w = log_w + _correction(kind)[:, None, None]
        for r in range(n_runs):
            j = r * len(experiment.types) + t
            truth[j] = kind.truth[r]
            if has0:
                n[j, :, 0], k[j, :, 0] = kind.level0[r, 0].size, kind.level0[r].sum((-1, -2))
            n[j, :, has0:] = len(kind.task)
            k[j, :, has0:] = kind.success[:, r].sum(-1).T
            grid = np.broadcast_arrays(
                j,
                np.arange(n_checks)[None, :, None],
                np.arange(len(positive))[:, None, None] + int(has0),
                (t * 10_000 + kind.task)[None, None],
                ((t * 10_000 + kind.task) * 100 + kind.attempt)[None, None],
                kind.success[:, r],
                log_w[:, r],
                kind.log_p[:, r],
            )
            parts.append([np.ascontiguousarray(part).reshape(-1) for part in grid])
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    surfaces = tuple(Surface(run, kind.name) for run in regime.runs for kind in experiment.types)
    donor = DonorKind.CONDITIONED if regime.donor_conditioned else DonorKind.UNCONDITIONED
    absent = np.repeat(experiment.missing, len(experiment.types), axis=0)
    n[absent], k[absent] = 0, 0
    rows = PrefillRows(*columns)
    rows = rows.take(~absent[rows.surface, rows.checkpoint, rows.level])
    steps = np.asarray(regime.checkpoints, dtype=float)
    direct = _direct_rows(experiment, absent) if has0 else None
    return Evidence(surfaces, steps, np.asarray(regime.levels), n, k, rows, donor, direct), truth


def _direct_rows(experiment: SimulatedExperiment, absent: NDArray[np.bool_]) -> DirectRows:
    """Level 0 by task."""
    parts = []
    for t, kind in enumerate(experiment.types):
        for r in range(len(experiment.regime.runs)):
            j = r * len(experiment.types) + t
            hits = kind.level0[r].sum(-1)
            c, task = np.meshgrid(*(np.arange(size) for size in hits.shape), indexing="ij")
            tries = np.full(hits.shape, kind.level0.shape[-1])
            columns = (np.full(hits.shape, j), c, t * 10_000 + task, tries, hits)
            seen = ~absent[j, c, 0]
            parts.append([column[seen] for column in columns])
    return DirectRows(*(np.concatenate(column).astype(np.int64) for column in zip(*parts, strict=True)))
