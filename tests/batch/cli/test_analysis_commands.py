"""The commands trajectory, integrate and report, as a user types them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from foreshock.__main__ import main
from foreshock.batch.cli.gp_command import figure_name

pytestmark = pytest.mark.usefixtures("svg_alone")


@dataclass(frozen=True)
class Outcome:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def foreshock(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Outcome]:
    """The program itself, in this process, started in `tmp_path`."""

    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["foreshock", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return Outcome(int(left.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Two tasks, two checkpoints, two levels, with scores."""
    run = tmp_path / "results" / "prefill_sensitivity" / "toy-20260102-030405-abcdef0"
    for folder in ("evals", "logprob"):
        (run / folder).mkdir(parents=True)
    for step, hits in ((10, {10: "b"}), (20, {10: "ab", 0: "b"})):
        for level in (0, 10):
            rows = [
                {"task_id": task, "attempt_idx": 0, "exploit_type": "x", "exploit_success": task in hits.get(level, "")}
                for task in "ab"
            ]
            path = run / "evals" / f"checkpoint-{step}_prefill{level}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        scores = [{"task_id": task, "attempt_idx": 0, "prefill_logprob_sum": -300.0 / step} for task in "ab"]
        path = run / "logprob" / f"checkpoint-{step}_prefill10_logprobs.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in scores))
    return run


def test_trajectory_takes_the_newest_run_and_integrate_goes_on_from_there(
    foreshock: Callable[..., Outcome], run_dir: Path, tmp_path: Path
) -> None:
    done = foreshock("trajectory", "--no-figures", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["all_exploits"]["n_tasks"] == 2
    folder = tmp_path / "results" / "trajectory_analysis" / run_dir.name
    frame = pd.read_csv(folder / "all_exploits" / "trajectory_analysis.csv")
    assert frame["min_prefill"].tolist() == [11, 10, 10, 0]
    joined = foreshock(
        "integrate", "--trajectory-csv", folder, "--logprob-dirs", run_dir, run_dir / "logprob",
        "--prefill-levels", "0", "10", "--logprob-threshold", "-20", "--no-figures",
    )  # fmt: skip
    assert joined.returncode == 0, joined.stderr
    assert "thresholds: 2 tasks reach both" in joined.stdout
    table = pd.read_csv(folder / "all_exploits" / "integrated" / "trajectory_with_logprob.csv")
    assert table["min_prefill_logprob_sum"].tolist()[1:] == [-15.0, -30.0, 0.0]


def test_run_context_is_a_directory_of_its_own(
    foreshock: Callable[..., Outcome], run_dir: Path, tmp_path: Path
) -> None:
    done = foreshock("trajectory", "--run-dir", run_dir, "--use-run-context", "--no-figures")
    assert done.returncode == 0, done.stderr
    (context,) = (tmp_path / "results" / "full_analysis").iterdir()
    assert json.loads((context / "status.json").read_text())["status"] == "completed"
    assert (context / "metadata.json").is_file()
    assert "trajectory" in (context / "config.yaml").read_text()
    table = context / "trajectory" / "all_exploits" / "trajectory_analysis.csv"
    joined = foreshock(
        "integrate", "--trajectory-csv", table, "--logprob-dirs", run_dir, "--use-run-context", "--no-figures"
    )
    assert joined.returncode == 0, joined.stderr
    (other,) = set((tmp_path / "results" / "full_analysis").iterdir()) - {context}
    assert (other / "integrated" / "integration_summary.json").is_file()


def test_a_dry_analysis_says_what_it_would_do_and_writes_nothing(
    foreshock: Callable[..., Outcome], run_dir: Path, tmp_path: Path
) -> None:
    done = foreshock("analyse", run_dir, "--dry-run", "--intentional", "original", "--without", "rates")
    assert done.returncode == 0, done.stderr
    assert "analyses: trajectory, integrated, gp, calibration, forecast, report" in done.stdout
    assert "original: all but inadequate_test_coverage, resource_exhaustion" in done.stdout
    assert not (tmp_path / "results" / "full_analysis").exists()


def test_report_writes_one_file_and_says_what_was_found(
    foreshock: Callable[..., Outcome], run_dir: Path, tmp_path: Path
) -> None:
    done = foreshock("report", "--run-dir", run_dir, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert Path(document["report"]) == run_dir / "report.html"
    assert document["bytes"] == (run_dir / "report.html").stat().st_size
    assert any("at step 20: 50% by counting alone" in line for line in document["summary"])
    assert any("1 of 2 attempts exploited" in line for line in document["summary"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trajectory", "--run-dir", "absent"], "absent: no such directory"),
        (["integrate", "--trajectory-csv", "absent.csv", "--logprob-dirs", "x"], "absent.csv: no such file"),
        (["integrate", "--trajectory-csv", "a.csv", "--logprob-dirs", "x", "--prefill-levels", "ten"], "level 'ten'"),
        (["report", "--run-dir", "absent"], "absent: no such directory"),
        (["analyse", "absent"], "absent: no such run directory"),
        (
            ["analyse", "--without", "gps", "absent"],
            "--without names gps; valid: forecast, emergence",
        ),
        (["analyse", "--skip-logprob", "--rescore", "absent"], "contradict each other"),
        (["exploit-logprob", "absent"], "CHECKPOINT with --output"),
    ],
)
def test_errors_are_messages_with_exit_code_two(
    foreshock: Callable[..., Outcome], run_dir: Path, arguments: list[str], message: str
) -> None:
    done = foreshock(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_line_is_named(foreshock: Callable[..., Outcome], run_dir: Path, tmp_path: Path) -> None:
    path = run_dir / "evals" / "checkpoint-10_prefill0.jsonl"
    path.write_text(path.read_text()[:-20])
    done = foreshock("trajectory", "--run-dir", run_dir)
    assert done.returncode == 2
    assert f"{path}:2:" in done.stderr


def test_without_any_run_the_next_step_is_named(foreshock: Callable[..., Outcome]) -> None:
    done = foreshock("report")
    assert done.returncode == 2
    assert "--run-dir" in done.stderr


@pytest.mark.parametrize("surface", ["../../x", "/etc/x", "a/b", "..", "a\n\x1b[31m", "x" * 300])
def test_a_surface_names_no_file_outside_its_folder(surface: str) -> None:
    """Exploit types are whatever other people's rows say."""
    name = figure_name(surface, 3)
    assert name == Path(name).name
    assert (name[0] != ".", name.isprintable(), len(name) < 200) == (True, True, True)
    assert figure_name("run_leak", 3) == "run_leak"
