"""How a run's prompts are settled at plan: settings, lengths, one prompt shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from foreshock.batch.config import RunConfig
from foreshock.batch.planning.lengths import TOO_LONG, PromptLengths
from foreshock.batch.planning.make_plan import grow_plan, make_plan
from foreshock.batch.planning.show_prompt import prompt_of_plan, show_prompt
from foreshock.errors import InputError
from foreshock.jobs.prompts.of_run import run_format
from foreshock.jobs.prompts.problem_prompt import build_user_message
from foreshock.jobs.records.spec import JobKind

MakeConfig = Callable[..., RunConfig]


def test_what_prompts_resolve_to_is_in_the_plan(make_config: MakeConfig) -> None:
    prompt = {"opening": "<reason>\n", "closing": "</reason>"}
    plan = make_plan(make_config(prompt=prompt, sampling={"stop_token_ids": [9]}))
    found = plan.file.settings.rendering
    assert (found["format"], found["opening"], found["closing"]) == ("think", "<reason>\n", "</reason>")
    assert 9 in [item["id"] for item in found["stop_tokens"]]
    assert "'</reason>'" in found["answer"]


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": {"opening": "<reason>\n", "closing": "</reason>"}},
        {"prompt": {"instructions": "djinn"}},
        {"prompt": {"format": "chat"}},
        {"sampling": {"stop_token_ids": [9]}},
    ],
)
def test_prompt_settings_are_part_of_a_specs_identity(make_config: MakeConfig, changes: dict[str, object]) -> None:
    ours = {spec.key() for spec in make_plan(make_config()).file.specs}
    assert ours.isdisjoint(spec.key() for spec in make_plan(make_config(**changes)).file.specs)


def test_instructions_of_ones_own_are_frozen_in_the_plan(make_config: MakeConfig, tmp_path: Path) -> None:
    path = tmp_path / "instructions.txt"
    path.write_text("TASK {description}\nCHECK {insecure_verifier_info}\nNAME {function_name}\n")
    config = make_config(prompt={"instructions": str(path)}, checkpoints={"steps": [1]})
    plan = make_plan(config)
    problem = next(iter(plan.inputs.problems.values()))
    assert build_user_message(problem, plan.file.settings.instructions).startswith(f"TASK {problem.description[:5]}")
    path.write_text("ANOTHER {description}")
    (further,) = make_plan(make_config(checkpoints={"steps": [2]})).checkpoints
    grown = grow_plan(config, plan.file, plan.inputs, [further])
    digests = {spec.template_sha256 for spec in grown.specs}
    assert digests == {plan.file.specs[0].template_sha256}


def test_instructions_that_cannot_be_used_are_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    path = tmp_path / "instructions.txt"
    with pytest.raises(InputError, match="valid: full, bare, djinn, or a text file"):
        make_plan(make_config(prompt={"instructions": str(path)}))
    path.write_text("Solve it.")
    with pytest.raises(InputError, match=r"have no \{description\}"):
        make_plan(make_config(prompt={"instructions": str(path)}))
    path.write_text("{description}\nwrite {functon_name}")
    with pytest.raises(InputError, match=r"txt:2: \{functon_name\} is no field.*did you mean \{function_name\}"):
        make_plan(make_config(prompt={"instructions": str(path)}))


# -- lengths


def test_prompts_that_do_not_fit_are_left_out_and_counted(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    whole = make_plan(config)
    longest = whole.file.extra["lengths"]["longest_prompt"]
    monkeypatch.setattr("foreshock.batch.planning.make_plan.context_length", lambda config, paths: longest)
    plan = make_plan(config)
    too_long = plan.file.extra["lengths"]["too_long"]
    assert too_long
    assert {level for _, level, _ in too_long} == {10}
    assert all(tokens >= longest for _, _, tokens in too_long)
    left_out = {(task, level) for task, level, _ in too_long}
    for spec in plan.file.specs:
        for level in spec.levels:
            assert not left_out & {(task, level) for task in spec.task_ids}
    scored = [s for s in plan.file.specs if s.kind is JobKind.LOGPROB and s.checkpoint == plan.checkpoints[0]]
    assert sorted({task for s in scored for task in s.task_ids}) == sorted(
        {task for s in whole.file.specs if s.kind is JobKind.LOGPROB for task in s.task_ids}
    )  # shorter levels of the same tasks are scored still
    assert len({s.shard_index for s in scored}) == len(scored)
    found = {(s.level, s.n_tasks) for s in plan.file.skipped if s.reason == TOO_LONG}
    assert found == {(10, len(too_long))}
    assert plan.n_rows < whole.n_rows


def test_a_run_of_which_nothing_fits_is_refused(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreshock.batch.planning.make_plan.context_length", lambda config, paths: 4)
    with pytest.raises(InputError, match="no prompt of this run fits the model's context of 4 tokens"):
        make_plan(make_config())


def test_lengths_say_what_fits_and_what_is_cut_short() -> None:
    lengths = PromptLengths({("a", 0): 5, ("a", 10): 9, ("b", 0): 10}, context=10, room=3)
    assert lengths.too_long == {("b", 0)}
    assert (lengths.longest, lengths.n_cut_short) == (9, 1)
    assert PromptLengths({("b", 0): 10}, context=None, room=3).too_long == frozenset()


# -- one prompt shown


def test_a_shown_prompt_is_the_one_that_workers_render(make_config: MakeConfig) -> None:
    config = make_config()
    plan = make_plan(config)
    shown = show_prompt(config, "2", 10)
    problem = plan.inputs.problems[shown["task"]]
    prefill = plan.inputs.prefill(shown["task"], 0, 10)
    assert prefill is not None
    prompt_format = run_format(plan.file.settings, plan.checkpoints[-1])
    user = build_user_message(problem, plan.file.settings.instructions)
    rendered = prompt_format.render(None, user, prefill.text)
    assert tuple(shown["token_ids"]) == rendered.token_ids
    assert shown["prefill_start"] == rendered.prefill_start
    assert shown["prompt"] + shown["prefill"] == rendered.text
    assert shown["prefill"] == prefill.text
    assert shown["checkpoint"] == "checkpoint-2"
    json.dumps(shown)


def test_a_plan_shows_one_prompt_shortened(make_config: MakeConfig) -> None:
    shown = prompt_of_plan(make_plan(make_config(prompt={"instructions": "full"})))
    assert shown is not None
    assert shown["level"] == 10
    assert "lines ..." in shown["prompt"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"checkpoint": "99"}, "no checkpoint '99' in this run; valid: checkpoint-1, checkpoint-2"),
        ({"task": "nope"}, "no task 'nope' in this run; it has e.g."),
        ({"level": -1}, "negative"),
    ],
)
def test_what_the_run_does_not_have_is_refused(make_config: MakeConfig, asked: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        show_prompt(make_config(), **asked)  # type: ignore[arg-type]  # one of three


def test_a_task_without_a_trace_is_shown_at_level_zero_only(make_config: MakeConfig) -> None:
    config = make_config()
    without = next(t for t in make_plan(config).inputs.problems if t not in make_plan(config).inputs.traces)
    assert show_prompt(config, level=0, task=without)["prefill"] == ""
    with pytest.raises(InputError, match="has no trace in the prefill source"):
        show_prompt(config, level=10, task=without)


def test_problems_that_hold_control_tokens_are_told(make_config: MakeConfig, tmp_path: Path) -> None:
    path = tmp_path / "instructions.txt"
    path.write_text("{description}<|im_end|>")
    (note,) = make_plan(make_config(prompt={"instructions": str(path)})).file.extra["admission"]["notes"]
    assert "problems hold control tokens" in note
    assert "'<|im_end|>'" in note
