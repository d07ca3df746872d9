"""Prefill sources and how levels cut them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.jobs.prefill import (
    PrefillSourceError,
    count_words,
    cut_prefill,
    cut_words,
    load_prefill_source,
    prefill_sha256,
)


def write(path: Path, rows: list[dict[str, Any] | str]) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def row(task: str, reasoning: str = "I see it", success: Any = True, **more: Any) -> dict[str, Any]:
    return {"task_id": task, "reasoning": reasoning, "exploit_success": success} | more


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, ""),
        (1, "  I"),
        (2, "  I\tread"),
        (3, "  I\tread\n\nthe"),
        (4, "  I\tread\n\nthe  task"),
        (9, "  I\tread\n\nthe  task"),
    ],
)
def test_a_level_ends_at_its_last_words_end_with_whitespace_kept(n: int, text: str) -> None:
    assert cut_words("  I\tread\n\nthe  task \n", n) == text


def test_words_applied_are_fewer_when_the_trace_is_short() -> None:
    assert cut_prefill("one two three ", 10).words == 3
    assert cut_prefill("one two three ", 2).words == 2
    assert cut_prefill(" \n", 5) == cut_prefill("", 0)


def test_a_negative_level_is_refused() -> None:
    with pytest.raises(ValueError, match="level -1 is negative"):
        cut_words("a", -1)


@given(text=st.text(), n=st.integers(0, 40))
def test_levels_are_nested_and_count_words_as_str_split_does(text: str, n: int) -> None:
    cut = cut_prefill(text, n)
    assert text.startswith(cut.text)
    assert cut.text.split() == text.split()[:n]
    assert cut.words == len(cut.text.split()) == count_words(cut.text)
    assert cut_words(text, n + 1).startswith(cut.text)
    assert cut.text == cut.text.rstrip() if cut.words else cut.text == ""
    assert cut_words(cut_words(text, n + 3), n) == cut.text


@given(st.text(), st.text())
def test_digests_tell_texts_apart(one: str, other: str) -> None:
    assert (prefill_sha256(one) == prefill_sha256(other)) == (one == other)


def test_only_exploit_successes_are_kept(tmp_path: Path) -> None:
    path = write(
        tmp_path / "s.jsonl",
        [
            row("a", "first", attempt_idx=0, model_id="donor"),
            row("b", "failed", success=False),
            "",
            row("a", "second", attempt_idx=4),
            row("c", "unknown", success=None),
            row("d", "broken") | {"error": "timeout"},
        ],
    )
    source = load_prefill_source(path)
    assert source.conditioned
    assert list(source.traces) == ["a"]
    assert [(t.reasoning, t.attempt_idx, t.model_id) for t in source.traces_of("a")] == [
        ("first", 0, "donor"),
        ("second", 4, None),
    ]
    assert source.traces_of("a")[1].source == f"{path}:4"
    assert source.first("a") == source.traces_of("a")[0]
    assert source.first("b") is None
    assert source.traces_of("b") == ()
    assert (source.n_rows, source.n_dropped) == (5, 3)


def test_unconditioned_sources_keep_every_trace(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", [row("a"), row("b", success=False), {"task_id": "c", "reasoning": "x y"}])
    source = load_prefill_source(path, unconditioned=True)
    assert not source.conditioned
    assert set(source.traces) == {"a", "b", "c"}


def test_another_reasoning_field_can_be_used(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", [row("a") | {"prefill_reasoning": "other words"}])
    assert load_prefill_source(path, reasoning_field="prefill_reasoning").traces_of("a")[0].reasoning == "other words"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([row("a"), "{broken"], r":2: not valid JSON"),
        (['["list"]'], r":1: expected a JSON object, found list"),
        ([row("a"), {"reasoning": "x", "exploit_success": True}], r":2: task_id is None"),
        ([{"task_id": "a", "exploit_success": True, "my_reasoning": "x"}], r":1: no 'reasoning' field.*my_reasoning"),
        ([row("a", "  ")], r":1: 'reasoning' is empty, and no other row can be used"),
        ([row("a", success="yes")], r":1: exploit_success is 'yes'; valid: true, false, null"),
        ([{"task_id": "a", "reasoning": "x"}], r":1: no exploit_success field.*prefill.conditioned"),
        ([row("a", attempt_idx="two")], r":1: attempt_idx is 'two'"),
        ([row("a", success=False)], r"none of its 1 rows has exploit_success true"),
        (["", "  "], r"the prefill source is empty"),
    ],
)
def test_bad_sources_are_refused_with_file_and_line(tmp_path: Path, lines: list[Any], message: str) -> None:
    path = write(tmp_path / "s.jsonl", lines)
    with pytest.raises(PrefillSourceError, match=message) as caught:
        load_prefill_source(path)
    assert str(caught.value).startswith(str(path))


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PrefillSourceError, match="cannot read the prefill source: No such file"):
        load_prefill_source(tmp_path / "none.jsonl")
    (tmp_path / "b.jsonl").write_bytes(b'{"a": "\xff"}\n')
    with pytest.raises(PrefillSourceError, match=":1: not UTF-8"):
        load_prefill_source(tmp_path / "b.jsonl")
