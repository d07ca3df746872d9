"""A table says which attempts there are and how they ended; a samples file adds texts to as many as it has."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from foreshock.jobs.records.jsonl import write_jsonl
from foreshock.jobs.records.sampled_rows import SampledTable, samples_beside, without_sample

ATTEMPTS = [(f"t{task}", attempt) for task in range(2) for attempt in (0, 1, 1)]  # the last two: rollouts of one


def table_row(number: int) -> dict[str, Any]:
    task, attempt = ATTEMPTS[number]
    return {"task_id": task, "attempt_idx": attempt, "exploit_success": number % 2 == 0, "insecure_suspect": True}


def sample_row(number: int) -> dict[str, Any]:
    task, attempt = ATTEMPTS[number]
    return {"task_id": task, "attempt_idx": attempt, "exploit_success": None, "code": f"code of {number}"}


@given(st.integers(0, 6), st.integers(0, 6))
def test_each_attempt_of_the_table_is_there_once_with_its_own_text(n_rows: int, n_samples: int) -> None:
    with TemporaryDirectory() as folder:
        table = Path(folder, "checkpoint-1_prefill0.jsonl")
        write_jsonl(table, map(table_row, range(n_rows)))
        write_jsonl(samples_beside(table), map(sample_row, range(n_samples)))
        rows = list(SampledTable.of(table).rows())
        assert [row["exploit_success"] for row in rows] == [number % 2 == 0 for number in range(n_rows)]
        texts = [f"code of {number}" if number < n_samples else None for number in range(n_rows)]
        assert [row.get("code") for row in rows] == texts
        assert without_sample(table) == max(0, n_rows - n_samples)


def test_samples_with_every_row_and_key_are_read_alone(tmp_path: Path) -> None:
    table = tmp_path / "checkpoint-1_prefill0.jsonl"
    write_jsonl(table, map(table_row, range(3)))
    assert SampledTable.of(table) == SampledTable(table, None)
    write_jsonl(samples_beside(table), [table_row(number) | {"code": "c"} for number in range(3)])
    assert SampledTable.of(table) == SampledTable(samples_beside(table), None)
    assert without_sample(table) == 0
