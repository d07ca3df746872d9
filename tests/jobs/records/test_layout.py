"""File names are formatted and parsed in one place, and parse back to what they were made from."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from foreshock.jobs.records.layout import CellName, ResultsLayout, RunLayout, checkpoint_order, run_dir_name

CELLS = st.lists(
    st.tuples(st.integers(0, 10**6).map(lambda n: f"checkpoint-{n}") | st.just("final"), st.integers(0, 500)),
    unique=True,
    max_size=5,
)


@given(cells=CELLS)
def test_cells_parse_back_in_order(tmp_path_factory, cells: list[tuple[str, int]]) -> None:
    layout = RunLayout(tmp_path_factory.mktemp("run"))
    for checkpoint, level in cells:
        for path in (
            layout.eval_file(checkpoint, level),
            layout.samples_file(checkpoint, level),
            layout.logprob_file(checkpoint, level),
            layout.kl_file(checkpoint, level),
            layout.ref_logprob_file(checkpoint, level),
        ):
            path.parent.mkdir(exist_ok=True)
            path.touch()
    expected = sorted(cells, key=lambda cell: (checkpoint_order(cell[0]), cell[1]))
    for found in (layout.eval_files(), layout.logprob_files(), layout.ref_logprob_files()):
        assert [file.cell for file in found] == [CellName(*cell) for cell in expected]


def test_the_other_logprob_name_is_read_too(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    layout.logprob.mkdir()
    (layout.logprob / "checkpoint-90_prefill10.jsonl").touch()
    assert [file.cell for file in layout.logprob_files()] == [CellName("checkpoint-90", 10)]


def test_names_are_those_of_the_earlier_tools(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    assert layout.eval_file("checkpoint-8", 10).name == "checkpoint-8_prefill10.jsonl"
    assert layout.samples_file("checkpoint-8", 10).name == "checkpoint-8_prefill10.jsonl.samples.jsonl"
    assert layout.logprob_file("checkpoint-8", 10).name == "checkpoint-8_prefill10_logprobs.jsonl"
    assert layout.kl_file("final", 2).name == "final_prefill2_kl.jsonl"


def test_runs_are_listed_newest_first_by_the_time_in_their_name(tmp_path: Path) -> None:
    results = ResultsLayout(tmp_path)
    names = [run_dir_name("b", datetime(2026, 1, d), "abc1234") for d in (2, 9, 5)]
    for name in names:
        results.run(name).root.mkdir(parents=True)
    (results.sensitivity / ".hidden").mkdir()
    assert [layout.name for layout in results.runs()] == [names[1], names[2], names[0]]
    assert names[0] == "b-20260102-000000-abc1234"
    assert ResultsLayout(tmp_path / "none").runs() == []
