"""JSON texts of a column's values: compared as bytes, decoded once for each that is distinct."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc

NULL = b"null"


def to_json(value: object) -> bytes:
    """As rows have it; in a row with a lone surrogate, what is not ASCII is escaped."""
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(value).encode()


def plain_texts(quoted: pa.BinaryArray) -> pa.BinaryArray:
    """JSON strings as `to_json` has them, whatever is escaped in them: [len(quoted)]."""
    if not _has_escapes(quoted):
        return quoted
    coded = quoted.dictionary_encode()
    plain = [to_json(json.loads(text)) for text in coded.dictionary.to_pylist()]
    return pa.array(plain, pa.binary()).take(coded.indices)


def as_column(texts: pa.BinaryArray, field: pa.Field) -> pa.Array:
    """Their values as reading a table gives them: strings dictionary-encoded, `error` excepted.

    Raises ValueError or ArrowException where reading would have to look at them one by one.
    """
    if pa.types.is_floating(field.type):  # seldom the same twice
        return as_floats(texts)
    coded = texts.dictionary_encode()
    values = _decoded(coded.dictionary, field.type)
    if not pa.types.is_string(field.type) or field.name == "error":  # read as they are
        return values.take(coded.indices)
    if values.null_count:  # null is no entry of the dictionary, but a row without one
        return values.take(coded.indices).dictionary_encode()
    return pa.DictionaryArray.from_arrays(coded.indices, values)


def as_floats(texts: pa.BinaryArray) -> pa.DoubleArray:
    """Numbers; null where there is none. Raises ArrowException for anything else."""
    known = pc.if_else(pc.equal(texts, NULL), None, texts)
    return known.cast(pa.string()).cast(pa.float64())


def _decoded(texts: pa.BinaryArray, kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind) and not _has_escapes(texts) and pc.all(pc.starts_with(texts, b'"')).as_py():
        return pc.binary_slice(texts, 1, -1).cast(kind)
    return pa.array(list(map(json.loads, texts.to_pylist())), kind)


def _has_escapes(texts: pa.BinaryArray) -> bool:
    return b"\\" in bytes(texts.buffers()[2] or b"")
