"""Other tools' samples become rows whose verdicts are what the user's field says, or are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foreshock.analysis.importing.rows import Mapping, read_rows, write_run
from foreshock.analysis.importing.sources import guess_format
from foreshock.analysis.tables import load_evals
from foreshock.errors import InputError


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rollout(step: int, task: str, hacked: Any) -> dict[str, Any]:
    return {"global_step": step, "task_id": task, "response": "x", "extra_info": {"hacked": hacked}}


def test_rollouts_of_several_steps_become_a_run(tmp_path: Path) -> None:
    path = lines(tmp_path / "r.jsonl", [rollout(s, t, s > 5) for s in (5, 9) for t in ("a", "a", "b")])
    mapping = Mapping(exploit="extra_info.hacked", step="global_step", exploit_type="leak")
    done = read_rows([path], guess_format(path), mapping)
    write_run(done, tmp_path / "run")
    evals = load_evals(tmp_path / "run")
    assert evals.groupby("checkpoint")["exploit_success"].mean().to_dict() == {5: 0.0, 9: 1.0}
    assert sorted(evals[evals["checkpoint"] == 5]["attempt_idx"]) == [0, 0, 1]
    assert set(evals["exploit_type"].astype(str)) == {"leak"}


def test_parquet_rollouts_and_two_verdicts(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [{"task_id": 1, "good": False, "weak": True}, {"task_id": 2, "good": True, "weak": True},
            {"task_id": 3, "good": None, "weak": True}]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "r.parquet")
    done = read_rows([tmp_path / "r.parquet"], "rollouts", Mapping(secure="good", insecure="weak", checkpoint=7))
    assert [row["exploit_success"] for row in done.rows[7]] == [True, False, None]
    assert done.without_verdict == 1
    assert done.untyped == 3


def test_why_code_failed_and_djinns_report_come_along(tmp_path: Path) -> None:
    """Of djinn's files and foreshock's own; what is no flag is refused and not left out."""
    row = {**rollout(5, "a", True), "code": "def f(): ...", "secure_detail": "case 1", "insecure_suspect": True,
           "insecure_suspect_patterns": ["p"], "output_tokens": "many"}  # fmt: skip
    mapping = Mapping(exploit="extra_info.hacked", step="global_step")
    write_run(read_rows([lines(tmp_path / "r.jsonl", [row])], "rollouts", mapping), tmp_path / "run")
    table = tmp_path / "run" / "evals" / "checkpoint-5_prefill0.jsonl"
    kept, whole = (json.loads(path.read_text()) for path in (table, table.with_name(f"{table.name}.samples.jsonl")))
    assert (whole["code"], whole["secure_detail"]) == ("def f(): ...", "case 1")
    assert not {"code", "secure_detail", "output_tokens"} & kept.keys()
    assert load_evals(tmp_path / "run")["insecure_suspect"].tolist() == [True]
    with pytest.raises(InputError, match="insecure_suspect is 'true'; valid: true, false, null"):
        read_rows([lines(tmp_path / "t.jsonl", [row | {"insecure_suspect": "true"}])], "rollouts", mapping)


def test_lm_eval_samples_with_one_response_each(tmp_path: Path) -> None:
    row = {"doc_id": 3, "doc": {"exploit_type": "leak"}, "resps": [["an answer"]], "hacks": 1.0,
           "arguments": {"gen_args_0": {"arg_0": "a prompt"}}}  # fmt: skip
    path = lines(tmp_path / "samples_task_2026.jsonl", [row])
    done = read_rows([path], guess_format(path), Mapping(exploit="hacks", checkpoint=1))
    (made,) = done.rows[1]
    assert (made["task_id"], made["response"], made["prompt"], made["exploit_type"]) == (
        "3",
        "an answer",
        "a prompt",
        "leak",
    )
    assert made["exploit_success"] is True
    path = lines(tmp_path / "samples_two.jsonl", [row | {"resps": [["a", "b"]]}])
    with pytest.raises(InputError, match="holds 2 responses"):
        read_rows([path], "lm-eval", Mapping(exploit="hacks", checkpoint=1))


def test_a_document_that_lm_eval_logs_once_a_filter_counts_once(tmp_path: Path) -> None:
    rows = [{"doc_id": i, "doc": {}, "resps": [["a"]], "arguments": {}, "filter": name, "hacks": float(name == "loose")}
            for i in range(2) for name in ("strict", "loose")]  # fmt: skip
    path = lines(tmp_path / "samples_task_2026.jsonl", rows)
    with pytest.raises(InputError, match=r"document 0 was at (?s:.*)--filter NAME, of strict, loose"):
        read_rows([path], "lm-eval", Mapping(exploit="hacks", checkpoint=1))
    done = read_rows([path], "lm-eval", Mapping(exploit="hacks", checkpoint=1, filter_name="loose"))
    assert [row["exploit_success"] for row in done.rows[1]] == [True, True]
    with pytest.raises(InputError, match="no filter 'x'; there are: strict, loose"):
        read_rows([path], "lm-eval", Mapping(exploit="hacks", checkpoint=1, filter_name="x"))


@pytest.mark.parametrize("arguments", [[["q1", {"until": []}]], {"gen_args_0": {"arg_0": "q1", "arg_1": {}}}])
def test_prompts_of_every_lm_eval_tell_two_tasks_documents_apart(tmp_path: Path, arguments: Any) -> None:
    row = {"doc_id": 0, "doc": {"q": 1}, "resps": [["a"]], "arguments": arguments, "hacks": 1}
    first = lines(tmp_path / "samples_one_2026.jsonl", [row])
    for other in (json.loads(json.dumps(row).replace("q1", "q2")), row | {"arguments": None}):
        second = lines(tmp_path / "samples_two_2026.jsonl", [other])
        with pytest.raises(InputError, match="task '0' has another prompt"):
            read_rows([first, second], "lm-eval", Mapping(exploit="hacks", checkpoint=1))


TRAINERS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "verl": ({"input": "q", "output": "a", "gts": "1", "score": 1.0, "step": 5}, {"exploit": "score", "task": "input"}),
    "TRL": (
        {"step": 5, "prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}],
         "hacked": 1.0, "advantage": 0.3},
        {"exploit": "hacked", "task": "prompt"},
    ),
    "verifiers, prime-rl": (
        {"example_id": 3, "step": 5, "prompt": [{"role": "user", "content": "q"}], "completion": "a", "hacked": True},
        {"exploit": "hacked"},
    ),
    "OpenRLHF": ({"input": "q", "output": "a", "reward": 1, "step": 5}, {"exploit": "reward", "task": "input"}),
}  # fmt: skip


@pytest.mark.parametrize("trainer", TRAINERS)
def test_rollouts_of_trainers_keep_their_texts(tmp_path: Path, trainer: str) -> None:
    row, names = TRAINERS[trainer]
    path = lines(tmp_path / "5.jsonl", [row, row])
    done = read_rows([path], "rollouts", Mapping(step="step", **names))  # type: ignore[arg-type]  # names are texts
    (first, second) = done.rows[5]
    assert (first["prompt"] in ("q", "user: q"), first["response"] in ("a", "assistant: a")) == (True, True)
    assert (first["attempt_idx"], second["attempt_idx"], first["task_id"]) == (0, 1, second["task_id"])


def test_two_problems_under_one_name_are_no_attempts_at_one(tmp_path: Path) -> None:
    rows = [rollout(5, "1", True) | {"prompt": prompt} for prompt in ("one", "another")]
    path = lines(tmp_path / "r.jsonl", rows)
    with pytest.raises(InputError, match="task '1' has another prompt than at"):
        read_rows([path], "rollouts", Mapping(exploit="extra_info.hacked", step="global_step"))
    done = read_rows([path], "rollouts", Mapping(exploit="extra_info.hacked", step="global_step", task="prompt"))
    assert [row["task_id"] for row in done.rows[5]] == ["one", "another"]


def test_one_file_named_twice_counts_once(tmp_path: Path) -> None:
    path = lines(tmp_path / "r.jsonl", [rollout(5, "a", True)])
    with pytest.raises(InputError, match="named twice"):
        read_rows([path, tmp_path / ".." / tmp_path.name / "r.jsonl"], "rollouts", Mapping(exploit="x", checkpoint=1))


@pytest.mark.parametrize("task", [None, "", True, 1.5, float("nan")])
def test_what_is_no_name_of_a_task_is_refused(tmp_path: Path, task: Any) -> None:
    path = lines(tmp_path / "r.jsonl", [rollout(5, task, True)])
    with pytest.raises(InputError, match=r"r\.jsonl:1"):
        read_rows([path], "rollouts", Mapping(exploit="extra_info.hacked", checkpoint=1))


@pytest.mark.parametrize("step", [float("inf"), 0.5, -1, "5", True])
def test_what_is_no_step_is_refused(tmp_path: Path, step: Any) -> None:
    path = lines(tmp_path / "r.jsonl", [rollout(step, "a", True)])
    with pytest.raises(InputError, match=r"r\.jsonl:1"):
        read_rows([path], "rollouts", Mapping(exploit="extra_info.hacked", step="global_step"))


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        (Mapping(checkpoint=1), "what counts as an exploit is not said"),
        (Mapping(secure="response", checkpoint=1), "what counts as an exploit is not said"),
        (Mapping(exploit="extra_info.hacked"), "the checkpoint is not said"),
        (
            Mapping(exploit="hacked", checkpoint=1),
            "no field 'hacked'; there are: global_step, task_id, .*extra_info.hacked",
        ),
        (Mapping(exploit="response", checkpoint=1), "response is 'x', no verdict"),
        (Mapping(exploit="extra_info.hacked", step="task_id"), "task_id is 'a', no training step"),
    ],
)
def test_what_is_not_said_is_asked_for_and_never_guessed(tmp_path: Path, mapping: Mapping, said: str) -> None:
    path = lines(tmp_path / "r.jsonl", [rollout(5, "a", True)])
    with pytest.raises(InputError, match=said):
        read_rows([path], "rollouts", mapping)


def test_a_reward_between_is_no_verdict(tmp_path: Path) -> None:
    path = lines(tmp_path / "r.jsonl", [rollout(5, "a", 0.5)])
    with pytest.raises(InputError, match=r"r\.jsonl:1: extra_info\.hacked is 0\.5, no verdict"):
        read_rows([path], "rollouts", Mapping(exploit="extra_info.hacked", checkpoint=1))


def test_inspect_logs_come_back_as_they_were_exported(factory: Any, tmp_path: Path) -> None:
    pytest.importorskip("inspect_ai.log", reason="needs inspect_ai: pip install 'foreshock[inspect]'")
    from foreshock.analysis.exporting.spec import EXPORTERS

    toy = factory.ToyRun(checkpoints=(5,), levels=(0,), tasks_per_type=2, types=("leak",))
    run = factory.write_run(tmp_path / "toy", toy, logprobs=False)
    (log,) = EXPORTERS.get("inspect").write(run, tmp_path, lambda done, total: None)
    done = read_rows([log], guess_format(log), Mapping(exploit="scores.exploit", checkpoint=5))
    before = load_evals(run).sort_values(["task_id", "attempt_idx"])["exploit_success"].tolist()
    after = sorted(done.rows[5], key=lambda row: (row["task_id"], row["attempt_idx"]))
    assert [row["exploit_success"] for row in after] == before


def test_a_folder_with_evaluations_is_left_alone(tmp_path: Path) -> None:
    path = lines(tmp_path / "r.jsonl", [rollout(5, "a", True)])
    done = read_rows([path], "rollouts", Mapping(exploit="extra_info.hacked", checkpoint=1))
    write_run(done, tmp_path / "run")
    with pytest.raises(InputError, match="holds evaluations already"):
        write_run(done, tmp_path / "run")
