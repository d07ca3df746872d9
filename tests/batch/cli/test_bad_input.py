"""Bad input of every kind ends with a message that names the file and the line, never with a traceback."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from foreshock.__main__ import main
from foreshock.batch.config import RunConfig

MakeConfig = Callable[..., RunConfig]
Make = Callable[[Path], list[str]]

BINARY = b"\x93\x00\xff\xfe" * 40
ROW = '{"task_id": "a", "exploit_type": "t", "attempt_idx": 0, "exploit_success": true}\n'
SAMPLE = {"task_id": "a", "prompt": "p", "prefill_reasoning": "one two", "prefill_tokens": 2}
CHECKPOINT = "CHECKPOINT"
"""Stands for a real checkpoint in the arguments below."""


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def leave(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and standard error of the command as its user runs it; an escaping exception fails the test."""
    monkeypatch.setattr(sys, "argv", ["foreshock", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert isinstance(end.value.code, int)
    return end.value.code, capsys.readouterr().err


def config(content: str | bytes) -> Make:
    return lambda folder: ["run", str(write(folder / "c.yaml", content)), "--dry-run"]


def run_files(content: str | bytes) -> Make:
    def make(folder: Path) -> list[str]:
        write(folder / "evals" / "checkpoint-1_prefill0.jsonl", content)
        return ["trajectory", "--run-dir", str(folder), "--output-dir", str(folder / "o"), "--no-figures"]

    return make


def samples(content: str | bytes) -> Make:
    def make(folder: Path) -> list[str]:
        file = write(folder / "s.jsonl", content)
        return ["logprob", str(file), "--checkpoint", CHECKPOINT, "--output", str(folder / "o"), "--device", "cpu"]

    return make


def unwritable(*arguments: str) -> Make:
    """A command whose output lies below a file."""

    def make(folder: Path) -> list[str]:
        write(folder / "file", "")
        write(folder / "evals" / "checkpoint-1_prefill0.jsonl", ROW)
        return [part.replace("FOLDER", str(folder)) for part in arguments]

    return make


CASES: dict[str, tuple[Make, str]] = {
    "binary config": (config(BINARY), r"c\.yaml: not UTF-8"),
    "empty config": (config(""), r"c\.yaml: expected a mapping"),
    "self-referring config": (config("a: &x [*x]\n"), r"c\.yaml:1: unknown key 'a'"),
    "key given twice": (config("name: a\ncheckpoints: {dir: x}\nname: b\n"), r"c\.yaml:3:.*'name'.* line 1"),
    "infinite number": (config("checkpoints: {dir: x}\nsampling: {temperature: .inf}\n"), r"c\.yaml:2:.*finite"),
    "absurd number": (config(f"checkpoints: {{dir: x}}\nsampling: {{attempts: {10**30}}}\n"), r"c\.yaml:2:.*1000000"),
    "steps that are no steps": (
        config("checkpoints:\n  dir: x\n  steps: [one]\n"),
        r"c\.yaml:3: checkpoints\.steps: 'one' is not a step",
    ),
    "binary rows": (run_files(BINARY), r"prefill0\.jsonl:1: not UTF-8"),
    "truncated rows": (run_files(ROW + ROW[:30]), r"prefill0\.jsonl:2: not valid JSON: not a complete JSON object"),
    "two rows on a line": (run_files(ROW.strip() + ROW), r"prefill0\.jsonl:1: more than one"),
    "foreign rows": (run_files('{"x": 1}\n'), r"prefill0\.jsonl:1: the row lacks 'task_id'"),
    "empty rows": (run_files(""), r"evals: no usable eval row"),
    "rows nested too deeply": (run_files("[" * 100_000 + "\n"), r"prefill0\.jsonl:1: "),
    "number too large": (run_files(ROW.replace(": 0,", f": {10**20},")), r"prefill0\.jsonl:1: attempt_idx"),
    "samples of the wrong type": (
        samples(json.dumps(SAMPLE | {"task_id": 1.5}) + "\n"),
        r"s\.jsonl:1: task_id is 1\.5",
    ),
    "negative level": (samples(json.dumps(SAMPLE | {"prefill_tokens": -3}) + "\n"), r"s\.jsonl:1: .*-3"),
    "half a character": (
        samples(json.dumps(SAMPLE | {"prefill_reasoning": "a \ud800"}) + "\n"),
        r"s\.jsonl:1: .*surrogate",
    ),
    "samples cut off": (samples(json.dumps(SAMPLE)[:40]), r"s\.jsonl:1: .*truncated"),
    "level without a source": (
        lambda folder: ["eval", CHECKPOINT, "--output", str(folder / "o"), "--prefill-tokens", "5"],
        r"--prefill-tokens 5 needs --prefill-from",
    ),
    "output below a file": (
        unwritable("trajectory", "--run-dir", "FOLDER", "--output-dir", "FOLDER/file/o", "--no-figures"),
        r"file/o.*: Not a directory",
    ),
    "evaluation below a file": (
        unwritable("eval", CHECKPOINT, "--output", "FOLDER/file/o.jsonl", "--device", "cpu", "--max-problems", "1"),
        r"file/.*: Not a directory",
    ),
    "no such run": (lambda folder: ["cancel", str(folder)], r"this run has no plan\.json"),
    "header without rows": (
        lambda folder: [
            "integrate",
            "--trajectory-csv",
            str(
                write(
                    folder / "t.csv",
                    "task_id,exploit_type,checkpoint,min_prefill,exploitable,accessibility,steps_to_threshold,"
                    "ever_reaches_threshold,at_threshold\n",
                )
            ),
            "--logprob-dirs",
            str(folder),
        ],
        r"t\.csv: holds a header and no row",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_named_with_its_place(
    case: str, tmp_path: Path, sft_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make, message = CASES[case]
    checkpoint = str(sft_run / "checkpoints" / "checkpoint-1")
    code, said = leave([checkpoint if part == CHECKPOINT else part for part in make(tmp_path)], monkeypatch, capsys)
    assert code == 2
    assert re.search(message, said), said


PROBLEM = {
    "id": "a", "description": "Add one.", "function_name": "f", "test_cases": "[([1], 2)]",
    "ground_truth": "def f(x): return x + 1", "exploit_type": "process_exit",
}  # fmt: skip


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("p.jsonl", BINARY, r"p\.jsonl:1: not UTF-8"),
        ("p.jsonl", json.dumps(PROBLEM)[:-9], r"p\.jsonl:1: not valid JSON"),
        ("p.jsonl", json.dumps(PROBLEM | {"test_cases": "[]"}), r"p\.jsonl:1: test_cases holds no cases"),
        ("p.parquet", "PAR1 rubbish PAR1", r"p\.parquet: not a parquet file"),
    ],
)
def test_problem_files_that_cannot_be_read(
    file: str,
    content: str | bytes,
    message: str,
    tmp_path: Path,
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = write(tmp_path / file, content)
    settings = make_config(problems={"source": str(source), "exploit_types": None})
    plan = write(tmp_path / "c.yaml", yaml.safe_dump(settings.to_yaml_dict()))
    code, said = leave(["plan", str(plan)], monkeypatch, capsys)
    assert code == 2
    assert re.search(message, said), said


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer.json", BINARY, r"checkpoint-1/tokenizer\.json: cannot be read"),
        ("config.json", "{", r"checkpoint-1/config\.json:1: not valid JSON"),
        ("model.safetensors", b"", r"model\.safetensors: truncated"),
        ("chat_template.jinja", "{% for x in %}", "checkpoint-1: the chat template cannot render"),
    ],
)
def test_checkpoints_that_cannot_be_loaded_are_found_when_planning(
    file: str,
    content: str | bytes,
    message: str,
    tmp_path: Path,
    sft_run: Path,
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in (sft_run / "checkpoints" / "checkpoint-1").iterdir():
        write(tmp_path / "m" / "checkpoint-1" / path.name, path.read_bytes())
    write(tmp_path / "m" / "checkpoint-1" / file, content)
    plan = write(
        tmp_path / "c.yaml", yaml.safe_dump(make_config(checkpoints={"dir": str(tmp_path / "m")}).to_yaml_dict())
    )
    code, said = leave(["plan", str(plan)], monkeypatch, capsys)
    assert code == 2
    assert re.search(message, said), said


def test_a_list_of_runs_survives_a_damaged_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from foreshock.batch.status.read import list_runs

    write(tmp_path / "prefill_sensitivity" / "x" / "status.json", "[")
    write(tmp_path / "prefill_sensitivity" / "y" / "plan.json", BINARY)
    assert {run["run"]: run["status"] for run in list_runs(tmp_path)} == {"x": "unreadable", "y": "unreadable"}


def test_a_run_of_another_tool_has_a_status(tmp_path: Path) -> None:
    from foreshock.batch.status.read import list_runs, read_status
    from foreshock.jobs.records.layout import RunLayout

    run = tmp_path / "prefill_sensitivity" / "other"
    write(run / "evals" / "checkpoint-1_prefill0.jsonl", ROW + ROW.replace("true", "false"))
    write(run / "logprob" / "checkpoint-1_prefill5.jsonl", '{"task_id": "a", "error": "too long"}\n')
    now = read_status(RunLayout(run))
    assert (now.status, now.rows_done, now.rows_total) == ("no plan", 2, 2)
    assert [(cell.kind, cell.exploits, cell.n_errors) for cell in now.cells] == [("eval", 1, 0), ("logprob", 0, 1)]
    assert [(entry["status"], entry["rows_done"]) for entry in list_runs(tmp_path)] == [("no plan", 2)]
