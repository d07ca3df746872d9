"""Random worlds reduced to what is learned from: features of cells with their truth, signs with and without a fault."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from benchmarks.calibration.worlds import chains, dressed, fading, paths, phrases, registers, traits
from benchmarks.calibration.worlds.corrupt import FAULTS, corrupted
from benchmarks.calibration.worlds.sweep import Array, Ints, World

from foreshock.analysis.evidence.evidence import Evidence
from foreshock.analysis.headline.estimate import LOG10, reduce_evidence
from foreshock.analysis.headline.prefixes import effective_counts, level_table
from foreshock.analysis.headline.signs import signs
from foreshock.analysis.headline.smoother import Settings

_APART = 1_000_000

REGISTER_KINDS = (
    "plain", "early decision", "late decision", "register rises", "register falls", "register waves",
    "late checkpoint donor", "donor of another family", "rare donor", "task tails", "few tasks carry", "hidden route",
    "hidden route opens", "hidden route opens and closes", "opposite runs", "rise and fall", "wave", "sudden", "silent",
    "few checkpoints", "many checkpoints", "many attempts", "few tasks", "unconditioned", "unequal attempts",
    "missing cells",
)  # fmt: skip
FAMILIES = {
    "registers": (registers.draw_world, REGISTER_KINDS),
    "fluid": (registers.draw_fluid_world, REGISTER_KINDS),
    "traits": (traits.draw_world, traits.KINDS),
    "chains": (chains.draw_world, chains.KINDS),
    "phrases": (phrases.draw_world, phrases.KINDS),
    "paths": (paths.draw_world, paths.KINDS),
    "fading": (fading.draw_world, fading.KINDS),
    "rising": (registers.draw_rising_world, REGISTER_KINDS),
    "steep": (registers.draw_steep_world, REGISTER_KINDS),
    "dressed traits": (partial(dressed.draw_world, maker=traits.draw_world), traits.KINDS),
    "dressed chains": (partial(dressed.draw_world, maker=chains.draw_world), chains.KINDS),
    "dressed phrases": (partial(dressed.draw_world, maker=phrases.draw_world), phrases.KINDS),
    "dressed paths": (partial(dressed.draw_world, maker=paths.draw_world), paths.KINDS),
}

_DRAWN_ALIKE = ("registers", "fluid", "paths")
"""Families whose worlds keep the random numbers they had first; worlds of the others have numbers of their own."""


@dataclass(frozen=True, slots=True)
class Sample:
    """x: [N, F] features; truth, median, sd: [N] log10 rates, the smoother's; k: [N] exploits at level 0; world: [N];
    kinds: one a world; signs: [S, G] of sound and faulty sweeps; fault: [S] index into FAULTS, -1 where sound;
    signs_world: [S]."""

    x: Array
    truth: Array
    median: Array
    sd: Array
    k: Ints
    world: Ints
    kinds: tuple[str, ...]
    names: tuple[str, ...]
    signs: Array
    fault: Ints
    signs_world: Ints
    sign_names: tuple[str, ...]


def random_worlds(family: str, seed: int, first: int, count: int) -> Iterator[tuple[int, World]]:
    """Worlds number first .. first + count - 1 of a family: four in nine from the whole prior, the rest by kind."""
    draw, kinds = FAMILIES[family]
    own = list(FAMILIES).index(family) if family not in _DRAWN_ALIKE else None
    for i in range(first, first + count):
        kind = "any" if i % 9 < 4 else kinds[i % len(kinds)]
        yield i, draw(np.random.default_rng([seed, i] if own is None else [seed, i, own]), kind)


def gather(family: str, seed: int, first: int, count: int, signed: int, most_cells: int = 60) -> Sample:
    """Reduce worlds. At most `most_cells` cells of each, so that no world outweighs the others; signs of the first
    `signed` of them, which are slower to get."""
    columns: dict[str, list[Array]] = {
        name: [] for name in Sample.__slots__ if name not in ("kinds", "names", "sign_names")
    }
    kinds: list[str] = []
    names: tuple[str, ...] = ()
    sign_names: tuple[str, ...] = ()
    for i, world in random_worlds(family, seed, first, count):
        rng = np.random.default_rng([seed, i, 1])
        evidence = world.evidence
        found = reduce_evidence(evidence, Settings())
        cells = np.flatnonzero((evidence.n.sum(-1) > 0).ravel())
        if len(cells) > most_cells:
            cells = rng.choice(cells, most_cells, replace=False)
        columns["x"].append(found.features.values[cells].astype(np.float32))
        columns["truth"].append(np.log10(world.truth.ravel()[cells]))
        columns["median"].append(found.smoothed.mean.ravel()[cells] / LOG10)
        columns["sd"].append(found.smoothed.sd.ravel()[cells] / LOG10)
        columns["k"].append(evidence.direct()[1].ravel()[cells])
        columns["world"].append(np.full(len(cells), i))
        kinds.append(world.kind)
        names = found.features.names
        if i >= first + signed:
            continue
        found_signs, faults, sign_names = sweep_signs(evidence, i, seed)
        columns["signs"].append(found_signs)
        columns["fault"].append(faults)
        columns["signs_world"].append(np.full(len(faults), i))
    joined = {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in columns.items()}
    return Sample(**joined, kinds=tuple(kinds), names=names, sign_names=sign_names)


def sweep_signs(evidence: Evidence, number: int, seed: int) -> tuple[Array, Ints, tuple[str, ...]]:
    """Signs of a sweep and of two faulty versions of it: one scaled, one mispaired or, rarely, noisy, since noise is
    the easiest to see. With each row the index of its fault, -1 for the sound one."""
    rng = np.random.default_rng([seed, number, 2])
    faults = [-1, number % 2, 3 if number % 4 == 3 else 2]
    rows, names = [], ()  # type: list[Array], tuple[str, ...]
    for fault in faults:
        judged = evidence if fault < 0 else corrupted(rng, evidence, FAULTS[fault])
        row, names = signs(judged, level_table(judged), *effective_counts(judged))
        rows.append(row)
    return np.stack(rows), np.array(faults), names


def group_of(world: Ints) -> Ints:
    """Which of the samples that `together` joined each world number is from."""
    return np.asarray(world // _APART)


def together(samples: Sequence[Sample]) -> Sample:
    """Several samples as one, their worlds numbered apart."""
    columns = {}
    for name in Sample.__slots__:
        parts = [getattr(sample, name) for sample in samples]
        if name in ("names", "sign_names"):
            columns[name] = parts[0]
        elif name == "kinds":
            columns[name] = tuple(kind for part in parts for kind in part)
        else:
            apart = _APART if name in ("world", "signs_world") else 0
            shifted = [part + apart * i if apart else part for i, part in enumerate(parts) if len(part)]
            columns[name] = np.concatenate(shifted)
    return Sample(**columns)
