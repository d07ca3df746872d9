"""Specs of a plan as compact JSON: what does not depend on the checkpoint is written once.

A plan of 10,000 checkpoints repeats the same few hundred shapes (kind, levels, tasks, digests) for every checkpoint.
Reading shares what was written once, so a plan takes little memory, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import groupby
from typing import Any

from foreshock.jobs.spec import JobSpec

_OF_CHECKPOINT = ("checkpoint", "model_fingerprint")
_SHAPE = tuple(f.name for f in fields(JobSpec) if f.init and f.name not in _OF_CHECKPOINT)


def encode_specs(specs: Sequence[JobSpec]) -> dict[str, Any]:
    """The specs as `specs`, `checkpoints`, `sequences` and `order`.

    `specs` holds each shape once, `checkpoints` each checkpoint with its fingerprint, `sequences` lists of numbers of
    shapes, `order` pairs of numbers of a checkpoint and of a sequence, which give all specs in their order.
    """
    shapes: dict[tuple[Any, ...], int] = {}
    points: dict[tuple[Any, ...], int] = {}
    sequences: dict[tuple[int, ...], int] = {}
    shape_json: list[dict[str, Any]] = []
    point_json: list[dict[str, Any]] = []
    order = []
    for of, own in groupby(specs, key=lambda spec: (spec.checkpoint, spec.model_fingerprint)):
        numbers = []
        for spec in own:
            point = points.setdefault(of, len(points))
            if point == len(point_json):
                data = spec.to_json()
                point_json.append({name: data[name] for name in _OF_CHECKPOINT})
            shape = _shape(spec)
            number = shapes.setdefault(shape, len(shapes))
            if number == len(shape_json):
                shape_json.append({k: v for k, v in spec.to_json().items() if k not in _OF_CHECKPOINT})
            numbers.append(number)
        order.append([points[of], sequences.setdefault(tuple(numbers), len(sequences))])
    return {
        "specs": shape_json,
        "checkpoints": point_json,
        "sequences": [list(sequence) for sequence in sequences],
        "order": order,
    }


def decode_specs(data: dict[str, Any]) -> tuple[JobSpec, ...]:
    """Inverse of `encode_specs`; also reads plans of earlier versions, whose `specs` are whole.

    Raises KeyError, IndexError, TypeError or ValueError for other data.
    """
    if "order" not in data:
        return tuple(JobSpec.from_json(spec) for spec in data["specs"])
    if not data["order"]:
        return ()
    first = data["checkpoints"][0]
    shapes = [JobSpec.from_json(shape | first) for shape in data["specs"]]
    points = [JobSpec.from_json(data["specs"][0] | point) for point in data["checkpoints"]]
    found: list[JobSpec] = []
    for point, sequence in data["order"]:
        of = points[point]
        found += [
            replace(shapes[number], checkpoint=of.checkpoint, model_fingerprint=of.model_fingerprint)
            for number in data["sequences"][sequence]
        ]
    return tuple(found)


def _shape(spec: JobSpec) -> tuple[Any, ...]:
    return tuple(getattr(spec, name) for name in _SHAPE)
