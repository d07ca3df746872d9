"""Where the values of many JSON lines lie, without decoding them.

Lines are taken only if each holds the expected keys, all of them, in their order and spaced as foreshock writes them;
whatever else there is, is left to who decodes lines. A quotation mark inside a JSON string is escaped, and no string
but a key has a colon behind it: so a bare quotation mark and a colon end a key, unless the mark begins a value. The
text between the values, once it is known to be the same in every line, proves the rest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_QUOTE, _COLON, _BACKSLASH, _NEWLINE, _SPACE, _BRACKET = b'":\\\n ['
_ESCAPED = re.compile(rb"\\.")
_LINE_END = b"}\n"
_VALUE_BEHIND = len('": ')

Places = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Values:
    """The values of some of a block's lines, in their order.

    `starts` [n_rows] is where lines begin, `bounds` [n_rows, 2 * len(keys)] where the text before each value does and
    where the value itself does, `ends` [n_rows] where the last value ends.
    """

    block: bytes | memoryview
    keys: tuple[str, ...]
    starts: Places
    bounds: Places
    ends: Places

    @property
    def n_rows(self) -> int:
        """How many lines."""
        return len(self.starts)

    def rows(self, places: npt.NDArray[np.int64]) -> Values:
        """Those of these lines, given in their order."""
        return replace(self, starts=self.starts[places], bounds=self.bounds[places], ends=self.ends[places])

    def texts(self, key: str) -> pa.BinaryArray:
        """JSON of a column: [n_rows]."""
        return self._between(self.bounds[:, self._place(key)], self._value_ends(key))

    def lines_through(self, key: str) -> pa.Buffer:
        """The lines, each ended behind the value of `key`."""
        parts = [self.starts, self._value_ends(key), self.ends, self.ends + len(_LINE_END)]
        return self._between(*parts).buffers()[2]

    def around(self, key: str) -> tuple[pa.BinaryArray, pa.BinaryArray]:
        """What stands in each line before the value of `key`, and what stands after it: both [n_rows]."""
        before = self._between(self.starts, self.bounds[:, self._place(key)])
        return before, self._between(self._value_ends(key), self.ends + len(_LINE_END))

    def _place(self, key: str) -> int:
        return 2 * self.keys.index(key) + 1

    def _value_ends(self, key: str) -> Places:
        behind = self._place(key) + 1
        return self.bounds[:, behind] if behind < self.bounds.shape[1] else self.ends

    def _between(self, *begins_and_ends: Places) -> pa.BinaryArray:
        """The block's texts from each of the first of these to the second, then from the third to the fourth."""
        offsets = np.stack(begins_and_ends, axis=1).ravel()
        return _cut(self.block, offsets).take(pa.array(np.arange(0, len(offsets), 2)))


class LineFormat:
    """Lines that hold `keys`."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = tuple(keys)
        between = [b', "%b": ' % key.encode() for key in keys]
        between[0] = b"{" + between[0].removeprefix(b", ")
        self._template = b"".join(between) + _LINE_END
        self._lengths = np.array([len(text) for text in between], dtype=np.int32)
        self._lengths[0] += len(_LINE_END)  # of the line before

    def find(self, block: bytes | memoryview) -> Values | None:
        """The values of whole lines; None if a line has another form, or there is none."""
        text = np.frombuffer(block, dtype=np.uint8)
        if text[:1].tobytes() != b"{" or text[-2:].tobytes() != _LINE_END:
            return None
        key_ends = _key_ends(text)
        n_rows, left = divmod(len(key_ends), len(self._keys))
        if left or not n_rows or np.count_nonzero(text == _NEWLINE) != n_rows:
            return None
        bounds = np.empty((n_rows, 2 * len(self._keys)), dtype=np.int32)
        bounds[:, 1::2] = key_ends.reshape(n_rows, -1) + _VALUE_BEHIND
        bounds[:, ::2] = bounds[:, 1::2] - self._lengths
        bounds[0, 0] = 0
        offsets = np.append(bounds.ravel(), np.int32(len(block) - len(_LINE_END)))
        if (offsets[1:] < offsets[:-1]).any():
            return None
        offsets = np.append(offsets, np.int32(len(block)))
        between = _cut(block, offsets).take(pa.array(np.arange(0, len(offsets), 2)))
        if not between.buffers()[2].equals(pa.py_buffer(self._template * n_rows)):
            return None
        ends = np.append(bounds[1:, 0], offsets[-2])
        starts = bounds[:, 0] + len(_LINE_END)
        starts[0] = 0
        return Values(block, self._keys, starts, bounds, ends)


def _key_ends(text: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Where the closing quotation marks of keys are, in a text that does not begin with a backslash."""
    colons = np.flatnonzero(text == _COLON)
    at = colons[text[colons - 1] == _QUOTE] - 1
    bare = np.ones(len(at), dtype=np.bool_)
    before = text[at - 1]
    doubtful = np.flatnonzero((before == _SPACE) | (before == _BRACKET))  # few, unless values begin with a colon
    line_starts = np.append(0, np.flatnonzero(text == _NEWLINE) + 1) if len(doubtful) else at
    for place in doubtful:
        line_start = line_starts[np.searchsorted(line_starts, at[place], side="right") - 1]
        bare[place] = _ends_string(text[line_start : at[place] + 1].tobytes())
    behind, n_backslashes = np.arange(len(at)), 1
    while len(behind):
        behind = behind[text[at[behind] - n_backslashes] == _BACKSLASH]
        bare[behind] ^= True  # an even number of backslashes are escaped themselves
        n_backslashes += 1
    return np.asarray(at[bare])


def _ends_string(line: bytes) -> bool:
    """Whether the quotation mark at the end of this much of a line ends a string instead of beginning one."""
    return _ESCAPED.sub(b"", line).count(b'"') % 2 == 0


def _cut(block: bytes | memoryview, offsets: Places) -> pa.BinaryArray:
    """The block's texts from each offset to the next one, which is not before it: [len(offsets) - 1]."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(block)]
    return pa.BinaryArray.from_buffers(pa.binary(), len(offsets) - 1, buffers)
