"""Numbers with their nouns."""

from __future__ import annotations

from foreshock.counted import counted


def test_one_is_singular_and_the_rest_is_not() -> None:
    assert [counted(n, "tensor") for n in (0, 1, 2, 1200)] == ["0 tensors", "1 tensor", "2 tensors", "1,200 tensors"]
    assert counted(2, "copy", "copies") == "2 copies"
