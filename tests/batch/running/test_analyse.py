"""An installed analysis has its section in the report, and a broken one costs the others nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from foreshock.analysis.analyses.registry import ANALYSES
from foreshock.batch.config_file import parse_config
from foreshock.batch.running.analyse import AnalysisReport, analyse, settings_of
from foreshock.jobs.records.jsonl import write_jsonl
from foreshock.jobs.records.layout import RunLayout

pytestmark = pytest.mark.usefixtures("svg_alone")

COUNTING = """
from foreshock.analysis.analyses.analysis import Analysis
from foreshock.analysis.page.sections import Section, paragraph


def find(request):
    return sum(len(path.read_text().splitlines()) for run in request.runs for path in run.glob("evals/*.jsonl"))


def show(request, rows):
    return Section(title="Own count", anchor="{anchor}", lead="Rows.", body_html=paragraph(f"There are {{rows}} rows."))


ANALYSIS = Analysis("counting", "counting rows", "rows not counted", find, show)
"""


@pytest.fixture
def own_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """foreshock's own analyses take seconds and are tested elsewhere."""
    for name in list(ANALYSES.own):
        monkeypatch.delitem(ANALYSES.own, name)  # type: ignore[arg-type]  # it is a dict


def analyse_small_run(root: Path) -> AnalysisReport:
    layout = RunLayout(root / "small-20260102-030405-abcdef0")
    for step in (1, 2):
        for level in (0, 10):
            rows = [
                {"task_id": f"t{n}", "exploit_type": "flag", "attempt_idx": 0, "exploit_success": n < step + level}
                for n in range(4)
            ]
            write_jsonl(layout.eval_file(f"checkpoint-{step}", level), rows)
    config = parse_config({"checkpoints": {"dir": str(root)}, "prefill": {"levels": [0]}})
    return analyse([layout], settings_of(config), layout.analysis, layout.report, lambda _: None)


def test_an_installed_analysis_has_its_section_in_the_report(
    install: Callable[..., None], own_left_out: None, tmp_path: Path
) -> None:
    install("own_count", "counting = own_count:ANALYSIS", COUNTING.format(anchor="own-count"), "foreshock.analyses")
    done = analyse_small_run(tmp_path)
    assert done.notes == []
    page = done.report.read_text()
    assert "There are 16 rows." in page
    assert 'id="own-count"' in page


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (COUNTING.format(anchor="summary"), "rows not counted: section 'Own count' has the anchor 'summary'"),
        (COUNTING.replace("sum(", "1 / 0 + sum(").format(anchor="own"), "own_count 2.1 failed with ZeroDivisionError"),
        ("import no_such_module\n", "no analysis 'counting': analysis 'counting' of own_count 2.1 cannot be imported"),
    ],
)
def test_one_that_fails_is_a_note(
    install: Callable[..., None], own_left_out: None, tmp_path: Path, source: str, said: str
) -> None:
    install("own_count", "counting = own_count:ANALYSIS", source, "foreshock.analyses")
    done = analyse_small_run(tmp_path)
    assert done.report.is_file()
    (note,) = done.notes
    assert said in note
