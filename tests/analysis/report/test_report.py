"""The report: self-contained, safe against names from files, honest about what is missing."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from foreshock.analysis.page.sections import format_value, html_table
from foreshock.analysis.report import ReportOptions, ReportTable, Section, write_report
from foreshock.analysis.report.gather import run_labels
from foreshock.analysis.report.provenance import read_provenance
from foreshock.errors import InputError

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Collects what the tests ask about, and checks that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.anchors: set[str] = set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src") and value]
        if tag == "img":
            self.images.append(given)
        if given.get("id"):
            self.anchors.add(str(given["id"]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def two_runs(factory: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    toy = factory.ToyRun(checkpoints=(10, 40, 160), levels=(0, 5, 10, 30), tasks_per_type=3)
    return [
        factory.write_run(root / f"{name}-20260102-030405-abcdef0", replace(toy, exploit=name == "exploit"), True)
        for name in ("exploit", "control")
    ]


@pytest.fixture(scope="module")
def written(two_runs: list[Path]) -> str:
    output = two_runs[0].parent / "report.html"
    headline = pd.DataFrame(
        [
            (run.name, kind, step, "headline", -1.5, -3.0, -0.5)
            for run in two_runs
            for kind in ("hardcoding", "verifier_bug")
            for step in (10, 40, 160)
        ],
        columns=["run", "exploit_type", "checkpoint", "method", "log10_rate", "lower95", "upper95"],
    )
    csv = two_runs[0] / "analysis" / "rates" / "exploit_rates.csv"
    table = ReportTable("numbers", csv, pd.DataFrame({"a_b": [1]}))
    extra = Section("Extra analysis", "extra", "<p>by another engineer</p>", tables=(table,))
    write_report(two_runs, output, [extra], rates=headline)
    return output.read_text()


def test_nothing_is_fetched(written: str) -> None:
    page = Page(written)
    assert page.links
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert "http://" not in written
    assert "https://" not in written


def test_navigation_leads_to_sections_that_exist(written: str) -> None:
    page = Page(written)
    targets = {link[1:] for link in page.links if link.startswith("#")}
    assert targets <= page.anchors
    assert {"summary", "surface", "trajectories", "integration", "ground-truth", "extra", "runs"} <= targets


def test_every_image_is_a_picture_with_a_text_alternative(written: str) -> None:
    page = Page(written)
    assert len(page.images) > 20
    for image in page.images:
        assert image["alt"]
        data = base64.b64decode(str(image["src"]).partition(",")[2])
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.width > 300


def test_every_figure_comes_with_the_numbers_it_was_drawn_from(written: str) -> None:
    figures = re.findall(r"<figure>.*?</figure>", written, re.DOTALL)
    for figure in figures:
        encoded = re.search(r'href="data:text/csv;base64,([^"]+)"', figure)
        assert encoded is not None
        frame = pd.read_csv(io.BytesIO(base64.b64decode(encoded[1])))
        assert len(frame) > 0


def test_summary_speaks_of_counted_attempts(two_runs: list[Path], written: str) -> None:
    rows = (two_runs[0] / "evals" / "checkpoint-160_prefill0.jsonl").read_text().splitlines()
    successes = sum('"exploit_success": true' in row for row in rows)
    assert f"{successes} of {len(rows)} attempts" in written


def test_estimates_are_set_against_ground_truth(two_runs: list[Path], written: str) -> None:
    assert "Estimates against directly measured rates" in written
    assert re.search(r"Of 12 cells labelled estimate, \d+ measured counts", written)
    assert "overlap" not in written
    frame = pd.read_csv(two_runs[0] / "analysis" / "ground_truth" / "estimates_against_truth.csv")
    assert set(frame["measured_n"]) == {3 * 40}


def test_both_runs_share_one_log_probability_threshold(two_runs: list[Path], written: str) -> None:
    assert written  # the files come with the report
    thresholds = {
        json.loads((run / "analysis" / "integrated" / "integration_summary.json").read_text())["logprob_threshold"]
        for run in two_runs
    }
    assert len(thresholds) == 1


def test_extra_sections_are_shown(written: str) -> None:
    assert "<p>by another engineer</p>" in written
    assert "<th" in written
    assert "a b</th>" in written


def test_names_from_files_cannot_inject_html(factory: ModuleType, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    toy = factory.ToyRun(types=(evil,), checkpoints=(5,), levels=(0, 10), tasks_per_type=2)
    run = factory.write_run(tmp_path / "run", toy, logprobs=False)
    write_report([run], tmp_path / "r.html", options=ReportOptions(title=evil, labels=("<b>run</b>",)))
    text = (tmp_path / "r.html").read_text()
    assert "<script>alert" not in text
    assert "<b>run</b>" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_gaps_errors_and_weak_sandboxes_are_named(factory: ModuleType, tmp_path: Path) -> None:
    toy = factory.ToyRun(checkpoints=(5, 10), levels=(0, 10), types=("hardcoding",), tasks_per_type=2)
    run = factory.write_run(tmp_path / "run", toy, logprobs=False)
    (run / "evals" / "checkpoint-10_prefill10.jsonl").unlink()
    (run / "metadata.json").write_text("{broken")
    factory.write_rows(
        run / "evals" / "checkpoint-5_prefill10.jsonl",
        [factory.eval_row(attempt=i, sandbox_tier="no_userns", **({"error": "x"} if i == 2 else {})) for i in range(3)],
    )
    write_report([run], tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "1 cells are missing (checkpoint at level): 10 at 10 words." in text
    assert "1 attempts failed to generate or verify" in text
    assert "metadata.json could not be read" in text
    assert "no_userns" in text
    assert "This run holds no log-probabilities" in text


def test_planned_but_absent_checkpoints_count_as_missing(factory: ModuleType, tmp_path: Path) -> None:
    toy = factory.ToyRun(checkpoints=(5,), levels=(0,), types=("hardcoding",), tasks_per_type=1)
    run = factory.write_run(tmp_path / "run", toy)
    (run / "config.yaml").write_text("checkpoints: [5, 50]\nprefill_tokens_sweep: '0'\n")
    write_report([run], tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "1 cells are missing (checkpoint at level): 50 at 0 words." in text
    assert "only level 0 was measured" in text
    assert "one checkpoint, so nothing can be said about time" in text


@pytest.mark.parametrize("anchor", ["surface", "two words", 'x"y', ""])
def test_unusable_anchors_are_refused_before_any_work(tmp_path: Path, anchor: str) -> None:
    with pytest.raises(InputError, match="'Mine' has the anchor"):
        write_report([tmp_path / "absent"], tmp_path / "r.html", [Section("Mine", anchor)])


def test_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run to report on"):
        write_report([], tmp_path / "r.html")


def test_labels_drop_the_time_stamp_only_while_they_stay_distinct() -> None:
    paths = [Path("a-20260101-000000-abc1234"), Path("b-20260101-000000-abc1234")]
    assert run_labels(paths, None) == ["a", "b"]
    same = [Path("a-20260101-000000-abc1234"), Path("a-20260102-000000-abc1234")]
    assert run_labels(same, None) == [path.name for path in same]
    with pytest.raises(InputError, match="1 labels for 2 runs"):
        run_labels(paths, ("x",))


def test_provenance_of_another_tools_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("checkpoints: [checkpoint-1, final]\nprefill_tokens_sweep: 0,10\n")
    (tmp_path / "metadata.json").write_text('{"git_commit": "abc", "git_dirty": true, "hostname": "n1"}')
    (tmp_path / "status.json").write_text('{"status": "failed", "exit_reason": "boom", "duration_seconds": 4000}')
    found = read_provenance(tmp_path)
    assert found.planned_cells() == {(1.0, 0), (1.0, 10), (np.inf, 0), (np.inf, 10)}
    facts = dict(found.facts())
    assert facts["Code"] == "abc with local changes"
    assert facts["Status"] == "failed (boom)"
    assert facts["Duration"] == "1 h 6 min"
    assert facts["Machine"] == "n1"


def test_how_the_model_was_asked_is_told(tmp_path: Path) -> None:
    prompting = {
        "format": "harmony",
        "template_args": {"reasoning_effort": "high"},
        "opening": "<a>",
        "closing": "<b>",
        "derived_from": "an answered turn",
        "answer": "after it",
        "stop_tokens": [{"id": 7, "token": "<end>"}],
        "stop_tokens_in_the_answer": [{"after": "<c>", "tokens": [{"id": 8, "token": "<b>"}]}],
        "system": None,
        "instructions": "{description}",
        "context": 512,
        "longest_prompt": 300,
        "too_long": 2,
    }
    (tmp_path / "metadata.json").write_text(json.dumps({"prompting": prompting}))
    facts = dict(read_provenance(tmp_path).facts())
    assert facts["Prompt format"] == "harmony, reasoning_effort: 'high'"
    assert facts["Reasoning"] == "'<a>' to '<b>', from an answered turn"
    assert facts["Ends at"] == "<end> (7), <b> (8) after '<c>'"
    assert facts["Prompts"].endswith("2 prompts (task and level) do not fit and were left out")
    assert "System message" not in facts


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0.12345, "0.123"), (1234567, "1,234,567"), (3.0, "3"), (float("inf"), "final"),
     (True, "yes"), ("<b>", "&lt;b&gt;")],
)  # fmt: skip
def test_values_are_shown_for_people(value: object, text: str) -> None:
    assert str(format_value(value)) == text


def test_tables_escape_and_align() -> None:
    table = str(html_table(pd.DataFrame({"name": ["<i>"], "rate": [0.5]})))
    assert "&lt;i&gt;" in table
    assert '<td class="num">0.5</td>' in table
