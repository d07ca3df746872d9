"""Specs of a plan as compact JSON: what does not depend on the checkpoint is written once.

A plan of 10,000 checkpoints repeats the same few hundred shapes (kind, levels, tasks, digests) for every checkpoint.
Reading shares what was written once, so a plan takes little memory, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any

from foreshock.jobs.records.checkpoint_names import result_name
from foreshock.jobs.records.spec import JobKind, JobSpec, canonical_json

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
    shapes = [_Shape.of(JobSpec.from_json(shape | first)) for shape in data["specs"]]
    points = [JobSpec.from_json(data["specs"][0] | point) for point in data["checkpoints"]]
    found: list[JobSpec] = []
    for point, sequence in data["order"]:
        of = points[point]
        holes = (_hole(of.identity()["checkpoint"]), _hole(of.model_fingerprint))
        found += [shapes[number].spec_of(of, holes) for number in data["sequences"][sequence]]
    return tuple(found)


def planned_levels(data: dict[str, Any], kind: JobKind) -> Iterator[tuple[str, Sequence[int]]]:
    """Names of checkpoints in results, and levels at which `kind` is planned for them, without making any spec; raises
    as `decode_specs`."""
    if "order" not in data:
        for spec in data["specs"]:
            if spec["kind"] == kind:
                yield result_name(spec["checkpoint"]["step"]), spec["levels"]
        return
    levels = [shape["levels"] if shape["kind"] == kind else () for shape in data["specs"]]
    of_sequence = [sorted({level for n in numbers for level in levels[n]}) for numbers in data["sequences"]]
    for point, sequence in data["order"]:
        yield result_name(data["checkpoints"][point]["checkpoint"]["step"]), of_sequence[sequence]


@dataclass(frozen=True, slots=True)
class _Shape:
    """A spec without its checkpoint. `text` is what `JobSpec.key` hashes, in pieces around what the checkpoint gives.

    A plan of 100,000 specs is read by every worker and every `status`: without this its keys take seconds.
    """

    values: tuple[Any, ...]
    text: tuple[bytes, bytes, bytes]

    @classmethod
    def of(cls, spec: JobSpec) -> _Shape:
        identity = spec.identity() | {"checkpoint": _HOLE, "model_fingerprint": _HOLE}
        pieces = canonical_json(identity).encode().split(_hole(_HOLE))
        first, second, third = pieces  # the keys are sorted: checkpoint comes before model_fingerprint
        return cls(tuple(getattr(spec, name) for name in _INIT), (first, second, third))

    def spec_of(self, of: JobSpec, holes: tuple[bytes, bytes]) -> JobSpec:
        values = list(self.values)
        values[_AT_CHECKPOINT], values[_AT_FINGERPRINT] = of.checkpoint, of.model_fingerprint
        spec = JobSpec(*values)
        text = b"".join((self.text[0], holes[0], self.text[1], holes[1], self.text[2]))
        spec.know_key(hashlib.sha256(text).hexdigest())
        return spec


_HOLE = "\x00hole\x00"  # a value that no name, stop or digest has
_INIT = tuple(f.name for f in fields(JobSpec) if f.init)
_AT_CHECKPOINT, _AT_FINGERPRINT = (_INIT.index(name) for name in _OF_CHECKPOINT)


def _hole(value: Any) -> bytes:
    return canonical_json(value).encode()


def _shape(spec: JobSpec) -> tuple[Any, ...]:
    return tuple(getattr(spec, name) for name in _SHAPE)
