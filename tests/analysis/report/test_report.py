"""The report: self-contained, safe against names from files, honest about what is missing."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import parse_qsl, urlencode

import numpy as np
import pandas as pd
import pytest

from foreshock.analysis.figures.palette import contrast
from foreshock.analysis.figures.scheme import DARK_PAPER
from foreshock.analysis.page.links import SampleCell, linked_words
from foreshock.analysis.page.sections import MOST_ROWS, format_value, html_table
from foreshock.analysis.report import ReportOptions, ReportTable, Section, write, write_report
from foreshock.analysis.report.gather import run_labels
from foreshock.analysis.report.provenance import read_provenance
from foreshock.errors import InputError

pytestmark = pytest.mark.usefixtures("svg_alone")

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Collects what the tests ask about, and checks that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.samples: list[str] = []
        self.drawings: list[dict[str, str | None]] = []
        self.anchors: set[str] = set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.samples += [str(given["href"])] if "data-samples" in given else []
        self.links += [value for name, value in attrs if name in ("href", "src") and value]
        if tag == "svg":
            self.drawings.append(given)
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
    assert all(link.startswith(("data:", "#", "view/index.html#")) for link in page.links)
    fetched = re.sub(r'(xmlns(:\w+)?="[^"]*"|<!DOCTYPE[^>]*>)', "", written)
    assert "http://" not in fetched
    assert "https://" not in fetched


def test_navigation_leads_to_sections_that_exist(written: str) -> None:
    page = Page(written)
    targets = {link[1:] for link in page.links if link.startswith("#")}
    assert targets <= page.anchors
    assert {"summary", "validity", "counts", "surface", "trajectories", "integration", "extra", "runs"} <= targets


def test_figures_are_drawings_with_text_that_say_their_values(written: str) -> None:
    page = Page(written)
    assert len(page.drawings) > 20
    assert all(drawing["aria-label"] for drawing in page.drawings)
    assert written.count("<text") > 500
    assert "exploit, step 160: " in written
    ids = re.findall(r'\bid="([^"]+)"', written)
    assert len(ids) == len(set(ids))


def test_the_answer_comes_first_and_validity_before_evidence(written: str) -> None:
    places = [written.index(f'<section id="{name}">') for name in ("summary", "validity", "counts", "surface", "runs")]
    assert places == sorted(places)
    answer = written[places[0] : places[1]]
    for heading in ("Emerged", "Foreseen", "Highest unprompted rate", "Not known"):
        assert answer.count(f"<dt>{heading}</dt>") == 2
    assert "There is no forecast for this run." in answer
    assert " by counting alone (95% interval" in answer
    assert answer.count("Its samples") == 2


def test_values_lead_to_the_samples_that_made_them(two_runs: list[Path], written: str) -> None:
    links = {link.partition("#")[2] for link in Page(written).samples}
    wanted = {"run": two_runs[1].name, "checkpoint": "40", "level": "10"}
    assert urlencode(wanted) in links
    assert urlencode(wanted | {"type": "hardcoding"}) in links
    assert urlencode({"run": two_runs[1].name, "type": "hardcoding", "verdict": "exploit"}) in links  # a table's number
    assert urlencode({"run": two_runs[1].name, "checkpoint": "40"}) in links  # min prefill, over all levels
    assert "&lt;a " not in written
    behind = written.partition('id="waiting-tasks"')[2].partition("</details>")[0]  # a Kaplan-Meier curve
    assert "&amp;task=" in behind
    assert '<a href="#waiting-tasks" tabindex="-1"><rect' in written
    assert f"<pre>foreshock view {two_runs[0].name} {two_runs[1].name} --report report.html</pre>" in written
    assert {dict(parse_qsl(link))["run"] for link in links} == {run.name for run in two_runs}


def test_the_pages_own_script_is_the_only_one_that_may_run(written: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", written, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in written or f"script-src 'sha256-{digest}'" in written


def test_text_is_readable_in_light_and_dark() -> None:
    style = (Path(write.__file__).parent / "style.css").read_text()
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part)) for part in style.split("@media")[:2])
    assert (light | dark)["paper"] == DARK_PAPER
    for theme in (light, light | dark):
        for ink in ("ink", "soft", "accent", "fine", "warn"):
            for paper in ("paper", "wash"):
                assert contrast(theme[ink], theme[paper]) >= 4.5, (ink, paper)
        assert contrast(theme["mark-ink"], theme["mark"]) >= 4.5


def test_hostile_samples_are_shown_and_do_nothing(factory: ModuleType, tmp_path: Path) -> None:
    toy = factory.ToyRun(checkpoints=(5, 50), levels=(0, 10), types=("hardcoding",), tasks_per_type=2)
    run = factory.write_run(tmp_path / "run", toy, logprobs=False)
    evil = "<script>alert(1)</script></pre>\u202e\x1b[31m" + "x" * 1_000_000
    for path in (run / "evals").glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        texts = {"prompt": evil, "response": evil, "code": evil, "secure_detail": evil, "prefill_reasoning": evil}
        factory.write_rows(path, [row | texts for row in rows])
    said = write_report([run], tmp_path / "r.html").summary
    assert f"foreshock analyse {run} makes a report with them" in " ".join(said)
    text = (tmp_path / "r.html").read_text()
    assert '<section id="samples">' in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "\u202e" not in text
    assert "U+202E" in text
    assert len(text) < 2_000_000


def test_a_run_that_writes_its_own_report_is_not_called_running(tmp_path: Path) -> None:
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    status = {"status": "running", "start_time": begun, "end_time": None, "duration_seconds": None}
    (tmp_path / "status.json").write_text(json.dumps(status))
    assert dict(read_provenance(tmp_path).facts())["Status"] == "running"
    facts = dict(read_provenance(tmp_path, "completed").facts())
    assert facts["Status"] == "completed"
    assert facts["Duration"].endswith("up to this report")


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
        [factory.eval_row(attempt=i, sandbox_tier="no-userns", **({"error": "x"} if i == 2 else {})) for i in range(3)],
    )
    write_report([run], tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "1 cells are missing (checkpoint at level): 10 at 10 words." in text
    assert "1 attempts failed to generate or verify" in text
    assert "metadata.json could not be read" in text
    assert "tiers: no-userns" in text
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


def test_numbers_of_a_table_lead_to_their_samples() -> None:
    """Also where every cell of a column is one: pandas would make texts of them, and the page escapes those."""
    cells = [SampleCell({"run": "r", "level": "0"}, text) for text in ("9 of 15", "<b>")]
    table = str(html_table(pd.DataFrame({"exploit_type": ["error_code_abuse", "b"], "seen": cells})))
    assert '<td class="num"><a data-samples="" href="view/index.html#run=r&amp;level=0">9 of 15</a></td>' in table
    assert "&lt;b&gt;</a>" in table
    assert "error code abuse" in table


def test_words_of_a_sentence_lead_to_their_samples() -> None:
    linked = linked_words("<x>: a b (5%), a, ab.", {"a": {"type": "a"}, "a b": {"type": "a_b"}})
    assert str(linked).count("data-samples") == 2
    assert str(linked).startswith("&lt;x&gt;: <a ")
    assert ">a b</a> (5%), <a " in str(linked)
    assert str(linked).endswith(", ab.")


def test_tables_escape_and_align() -> None:
    table = str(html_table(pd.DataFrame({"name": ["<i>"], "rate": [0.5]})))
    assert "&lt;i&gt;" in table
    assert '<td class="num">0.5</td>' in table


@pytest.mark.parametrize(("n", "shown"), [(MOST_ROWS, MOST_ROWS), (MOST_ROWS + 3, MOST_ROWS), (10_000, MOST_ROWS)])
def test_a_long_table_shows_its_ends_and_says_how_much_is_between(n: int, shown: int) -> None:
    table = str(html_table(pd.DataFrame({"row": range(n)})))
    assert table.count('<td class="num">') == shown
    assert f">{n - 1:,}<" in table or f">{n - 1}<" in table
    assert (f"{n - shown:,} of {n:,} rows are not shown" in table) == (n > shown)
