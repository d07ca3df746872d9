"""The commands as a user types them: results on standard output, advice on standard error, honest exit codes."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from endpoint_server import FakeBackend, Server
from typer.testing import CliRunner, Result

from foreshock.batch.cli.app import app
from foreshock.batch.config import RunConfig
from foreshock.errors import ForeshockError
from foreshock.jobs.records.spec import Checkpoint
from foreshock.jobs.verify.builtin.problems import builtin_problems

pytestmark = [pytest.mark.early, pytest.mark.usefixtures("svg_alone")]

MakeConfig = Callable[..., RunConfig]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeed(*arguments: object) -> str:
    result = invoke(*arguments)
    assert result.exception is None, result.output
    assert result.exit_code == 0
    return result.stdout


def fail(*arguments: object) -> str:
    """The message of the error that a command ends with."""
    result = invoke(*arguments)
    assert isinstance(result.exception, ForeshockError), result.output
    return str(result.exception)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def config_file(tmp_path: Path, make_config: MakeConfig) -> Path:
    """A run of rows and tables, without analyses and report."""
    path = tmp_path / "run.yaml"
    config = make_config(checkpoints={"steps": [1, 2]})
    path.write_text(yaml.safe_dump(config.to_yaml_dict()))
    return path


def test_a_run_from_plan_to_status(config_file: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "results" / "prefill_sensitivity" / "test-20260101-000000-abc1234"
    analysed = "analysis.enabled=true"
    planned = json.loads(succeed("plan", config_file, analysed, "--json"))
    assert planned["rows"] == {"eval": 2 * 2 * (10 + 9 + 9), "logprob": 2 * 2 * 2 * 9}
    assert json.loads(succeed("run", config_file, analysed, "--dry-run", "--json")) == planned
    assert planned["adaptive"] is None
    assert json.loads(succeed("plan", config_file, "--adaptive", "--json"))["adaptive"]["budget_samples"] == 11
    assert not run_dir.exists()
    done = json.loads(succeed("run", config_file, analysed, "--run-dir", run_dir, "--json"))
    assert done["complete"]
    assert done["rows"]["n_eval"] == planned["rows"]["eval"]
    assert Path(done["report"]).is_file()
    state = json.loads(succeed("status", run_dir, "--json"))
    assert (state["status"], state["rows_done"]) == ("completed", planned["rows_total"])
    assert {cell["state"] for cell in state["cells"]} == {"done"}
    assert "completed" in succeed("status", run_dir)
    listed = json.loads(succeed("ls", "--results-dir", tmp_path / "results", "--json"))
    assert [item["status"] for item in listed] == ["completed"]
    assert run_dir.name in succeed("ls", "--results-dir", tmp_path / "results")
    assert json.loads(succeed("resume", run_dir, "--json"))["complete"]
    assert json.loads(succeed("aggregate", run_dir, "--json"))["missing"] == []
    assert "there is a run here already" in fail("run", config_file, "--run-dir", run_dir)


def test_a_plan_for_people_names_what_is_skipped(config_file: Path) -> None:
    shown = succeed("plan", config_file, "--adaptive")
    assert "adaptive: 11 further unprompted samples in 2 rounds" in shown.replace("\n", " ")
    assert re.search(r"skipped at levels? [\d, ]+: 1 problems", shown)
    assert "checkpoint-1, checkpoint-2" in shown


def test_an_earlier_run_is_a_configuration(config_file: Path, tmp_path: Path, sft_run: Path, traces: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    document = {
        "checkpoint_dir": str(sft_run / "checkpoints"),
        "checkpoints": "1,4",
        "prefill_tokens_sweep": "0,5",
        "prefill_source": str(traces),
    }
    (old / "config.yaml").write_text(yaml.safe_dump(document))
    planned = json.loads(succeed("plan", "--sensitivity-run", old, "--skip-logprob", "--json"))
    assert (planned["checkpoints"], planned["levels"]) == (["checkpoint-1", "checkpoint-4"], [0, 5])
    assert "logprob" not in planned["rows"]


def test_eval_writes_one_cell_and_again_the_same_without_a_worker(
    tmp_path: Path, sft_run: Path, traces: Path, request: pytest.FixtureRequest
) -> None:
    output = tmp_path / "out.jsonl"
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(json.dumps(asdict(p)) + "\n" for p in builtin_problems("eval", ["process_exit"])))
    arguments = ["eval", sft_run / "checkpoints" / "checkpoint-2", "-o", output, "--prefill-from", traces]
    arguments += [
        "--problems",
        problems,
        "--prefill-tokens",
        5,
        "--num-attempts",
        2,
        "--max-problems",
        3,
        "--max-tokens",
        8,
    ]
    done = json.loads(succeed(*arguments, "--device", "cpu", "--json"))
    rows = rows_of(output)
    assert done["n_rows"] == len(rows)
    assert {row["prefill_tokens"] for row in rows} <= {5}
    assert [row["response"] for row in rows_of(Path(done["samples"]))]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.jsonl",
        "out.jsonl.samples.jsonl",
        "problems.jsonl",
    ]
    assert "the output is there already" in fail(*arguments)
    before = output.read_bytes()
    request.getfixturevalue("in_this_process")
    succeed(*arguments, "--device", "cpu", "--force")
    assert output.read_bytes() == before


def test_eval_refuses_what_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert "no checkpoint-N or final directory in this folder" in fail(
        "eval", tmp_path / "model", "-o", tmp_path / "x.jsonl"
    )
    assert "no such checkpoint directory" in fail("eval", tmp_path / "checkpoint-7", "-o", tmp_path / "x.jsonl")


def brute_force(checkpoint: Path, system: str | None, user: str, text: str, temperature: float) -> float:
    """log P(prefill | prompt), one unbatched forward pass, log softmax of all logits."""
    import torch
    import transformers

    from foreshock.jobs.prompts.registry import select_format
    from foreshock.jobs.prompts.tokenizer import load_tokenizer

    prompt = select_format("auto", load_tokenizer(checkpoint)).render(system, user, text)
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(torch.tensor([prompt.token_ids])).logits[0].double() / temperature
    logprobs = torch.log_softmax(logits, dim=-1)
    return sum(logprobs[i - 1, prompt.token_ids[i]].item() for i in range(prompt.prefill_start, len(prompt.token_ids)))


def test_logprob_equals_a_brute_force_sum(config_file: Path, tmp_path: Path, sft_run: Path) -> None:
    run_dir = tmp_path / "run"
    succeed("run", config_file, "--run-dir", run_dir, "--skip-logprob")
    samples = run_dir / "evals" / "checkpoint-2_prefill10.jsonl.samples.jsonl"
    checkpoint = sft_run / "checkpoints" / "checkpoint-2"
    output = tmp_path / "scores.jsonl"
    arguments = ["logprob", samples, "--checkpoint", checkpoint, "-o", output, "--temperature", 0.7, "--device", "cpu"]
    succeed(*arguments)
    scored, sampled = rows_of(output), rows_of(samples)
    assert [(r["task_id"], r["attempt_idx"]) for r in scored] == [(r["task_id"], r["attempt_idx"]) for r in sampled]
    for score, sample in list(zip(scored, sampled, strict=True))[:4]:
        expected = brute_force(checkpoint, sample["system"], sample["prompt"], sample["prefill_reasoning"], 0.7)
        assert math.isclose(score["prefill_logprob_sum"], expected, abs_tol=1e-4)
        assert score["exploit_success"] == sample["exploit_success"]
    assert "the output is there already" in fail(*arguments)


def test_logprob_of_a_run_borrows_prefills_where_a_checkpoint_has_none(
    config_file: Path, tmp_path: Path, sft_run: Path
) -> None:
    run_dir = tmp_path / "run"
    succeed("run", config_file, "--run-dir", run_dir)
    whole = {path.name: rows_of(path) for path in (run_dir / "logprob").iterdir()}
    arguments = ["logprob", "--prefill-run-dir", run_dir, "--sft-run-dir", sft_run, "--output-dir", tmp_path / "again"]
    report = json.loads(succeed(*arguments, "--device", "cpu", "--json"))
    assert report["borrowed"] == {
        "checkpoint-4 at 2 words": "checkpoint-1",
        "checkpoint-4 at 10 words": "checkpoint-1",
    }
    for name, rows in whole.items():
        again = rows_of(tmp_path / "again" / "logprob" / name)
        assert [r["prefill_logprob_sum"] for r in again] == pytest.approx([r["prefill_logprob_sum"] for r in rows])
    borrowed = rows_of(tmp_path / "again" / "logprob" / "checkpoint-4_prefill10_logprobs.jsonl")
    assert {row["exploit_success"] for row in borrowed} == {None}
    kept = json.loads(succeed(*arguments, "--device", "cpu", "--json"))
    assert (len(kept["kept"]), kept["files"]) == (6, [])


def test_logprob_ends_with_1_where_rows_could_not_be_scored(tmp_path: Path, sft_run: Path) -> None:
    checkpoint = Checkpoint("run", 2, sft_run / "checkpoints" / "checkpoint-2")
    samples, output = tmp_path / "samples.jsonl", tmp_path / "scores.jsonl"
    row = {"task_id": "t", "attempt_idx": 0, "prompt": "Add.", "prefill_tokens": 2, "prefill_reasoning": "I read"}
    samples.write_text(json.dumps(row) + "\n")
    with Server(checkpoint, FakeBackend(checkpoint), prompt_logprobs=False, echo=False) as server:
        arguments = ["logprob", samples, "--checkpoint", checkpoint.path, "-o", output, "--base-url", server.url]
        result = invoke(*arguments, "--served-model", "model")
    assert result.exit_code == 1
    assert "1 row in 1 file; 1 failed" in result.stdout
    (scored,) = rows_of(output)
    assert "gives no log-probabilities of a prompt" in scored["error"]
    assert scored["prefill_logprob_sum"] is None


def test_single_commands_take_the_settings_of_prompts(
    tmp_path: Path, sft_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[RunConfig] = []

    def stop(config: RunConfig, *_: object) -> None:
        seen.append(config)
        raise ForeshockError("seen")

    monkeypatch.setattr("foreshock.batch.running.one_cell.evaluate_one", stop)
    checkpoint = sft_run / "checkpoints" / "checkpoint-2"
    command = ["eval", checkpoint, "-o", tmp_path / "o.jsonl", "--system", "Be brief.", "--stop-token-id", 7]
    command += ["--template-arg", "enable_thinking=false", "--template-arg", "date=2025-08-05", "--closing", "</r>"]
    assert fail(*command, "--opening", "<r>\n") == "seen"
    prompt = seen[0].prompt
    assert (prompt.system, prompt.opening, prompt.closing) == ("Be brief.", "<r>\n", "</r>")
    assert prompt.template_args == {"enable_thinking": False, "date": "2025-08-05"}
    assert list(seen[0].sampling.stop_token_ids) == [7]
    assert "is not KEY=VALUE" in fail(*command, "--template-arg", "thinking")
    given = [("template_args", {"thinking": True}), ("opening", "<r>"), ("closing", "</r>")]
    monkeypatch.setattr("foreshock.batch.on_files.score.score_one_file", lambda *args: stop(args[3]))
    command = ["logprob", tmp_path / "s", "--checkpoint", checkpoint, "-o", tmp_path / "p", "--opening", "<r>"]
    assert fail(*command, "--closing", "</r>", "--template-arg", "thinking=true") == "seen"
    assert [(name, getattr(seen[-1], name)) for name, _ in given] == given


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"task_id": "a", "prompt": "p", "prefill_tokens": 3}\n', "row lacks prefill_reasoning"),
        ('{"task_id": "a", "prompt": "p", "prefill_reasoning": "x"}\n', "the row's level is unknown"),
        ('{"task_id": "a", "prompt": "p", "prefill_reasoning": "", "prefill_tokens": 0}\n', "nothing to score"),
        ("", "nothing to score"),
        ('{"task_id": \n', "x.jsonl:1: not valid JSON"),
    ],
)
def test_logprob_names_what_a_samples_file_lacks(tmp_path: Path, sft_run: Path, content: str, says: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    checkpoint = sft_run / "checkpoints" / "checkpoint-1"
    assert says in fail("logprob", path, "--checkpoint", checkpoint, "-o", tmp_path / "out.jsonl")


def test_logprob_needs_one_of_its_two_forms(tmp_path: Path) -> None:
    assert "give either SAMPLES with --checkpoint and --output" in fail("logprob")
    assert "no such run directory" in fail(
        "logprob", "--prefill-run-dir", tmp_path / "absent", "--sft-run-dir", tmp_path
    )


def test_doctor_knows_this_machine() -> None:
    found = json.loads(invoke("doctor", "--json").stdout)
    assert {"Python", "packages", "CPU", "sandbox", "Slurm"} <= {item["what"] for item in found}
    assert not [item for item in found if item["state"] == "missing"]


def test_help_is_fast_to_import_and_errors_are_messages(tmp_path: Path) -> None:
    heavy = "import sys; import foreshock.batch.cli.app; "
    heavy += "print([m for m in ('torch', 'transformers', 'pandas', 'matplotlib', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    bad = subprocess.run(
        [sys.executable, "-m", "foreshock", "run", str(tmp_path / "absent.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert bad.returncode == 2
    assert "absent.yaml: no such configuration file" in bad.stderr
    assert "Traceback" not in bad.stderr
    version = subprocess.run(
        [sys.executable, "-m", "foreshock", "--version"], capture_output=True, text=True, check=True
    )
    assert version.stdout.startswith("foreshock 0.")


def test_a_plan_is_made_without_torch_and_is_the_same(config_file: Path) -> None:
    code = "import sys; from foreshock.batch.cli.app import app; app(sys.argv[1:], standalone_mode=False); "
    code += "print([name for name in ('torch', 'transformers', 'pandas') if name in sys.modules], file=sys.stderr)"
    argv = [sys.executable, "-c", code, "plan", str(config_file), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
    assert json.loads(done.stdout) == json.loads(succeed("plan", config_file, "--json"))


@pytest.mark.parametrize("command", ["status", "resume", "aggregate"])
def test_a_directory_that_is_no_run_is_said_to_be_none(tmp_path: Path, command: str) -> None:
    assert "has no plan.json" in fail(command, tmp_path)


def test_prompt_prints_what_is_sent(config_file: Path) -> None:
    shown = succeed("prompt", config_file, "--level", "2")
    assert "--- the model goes on here ---" in shown
    assert "<think>" in shown
    assert "<|im_end|>" in shown
    document = json.loads(succeed("prompt", config_file, "--checkpoint", "2", "--level", "2", "--json"))
    assert document["words"] == 2
    assert len(document["token_ids"]) == document["tokens"]
    assert "no checkpoint '7' in this run" in fail("prompt", config_file, "--checkpoint", "7")
