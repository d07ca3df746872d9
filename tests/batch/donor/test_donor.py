"""Donors on the tiny model: what is trained on, what resuming changes, what the result is good for."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from foreshock.batch.cli.app import app
from foreshock.batch.cli.donor_command import sampling_command
from foreshock.batch.config import RunConfig
from foreshock.batch.config_file import load_config, with_overrides
from foreshock.batch.donor.encoded import Encoded
from foreshock.batch.donor.examples import Example, make_examples, split_examples
from foreshock.batch.donor.loop import LoopHooks, batch_at, steps_per_epoch, why_finished
from foreshock.batch.donor.make import make_donor, working_folder
from foreshock.batch.donor.plan import DonorPlan, plan_donor
from foreshock.batch.donor.rate import RateCount
from foreshock.batch.donor.settings import Method, StopOn, TrainingSettings
from foreshock.batch.donor.state import TrainingState, rank
from foreshock.batch.planning.make_plan import make_plan as plan_run
from foreshock.errors import ForeshockError, InputError, StopRequestedError
from foreshock.jobs.model_files.fingerprint import model_fingerprint
from foreshock.jobs.prompts.registry import select_format
from foreshock.jobs.prompts.settings import DEFAULT
from foreshock.jobs.prompts.turn_end import turn_end
from foreshock.jobs.scoring.exploit_code import exploit_answer
from foreshock.jobs.verify.builtin.problems import builtin_problems

pytest.importorskip("peft", reason="LoRA donors: pip install 'foreshock[train]'")

FAST = TrainingSettings(learning_rate=1e-2, epochs=2, rank=4, held_out=0.3, stop_on=StopOn.LOSS)
MakePlan = Callable[..., DonorPlan]


@pytest.fixture
def make_plan(make_config: Callable[..., RunConfig], tmp_path: Path) -> MakePlan:
    def make(name: str = "donor", settings: TrainingSettings = FAST, **sections: dict[str, Any]) -> DonorPlan:
        given = {"prefill": {"source": None, "levels": [0]}, "problems": {"max_problems": 10}} | sections
        return plan_donor(make_config(**given), settings, "2", tmp_path / name)

    return make


def weights(folder: Path) -> bytes:
    (file,) = folder.glob("*model.safetensors")
    return file.read_bytes()


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("think", "<|im_end|>"),
        ("think_closed", "<|im_end|>"),
        ("chat", "<|im_end|>"),
        ("harmony", "<|return|>"),
        ("plain", "<|endoftext|>"),
    ],
)
def test_a_turn_ends_in_the_token_that_sampling_stops_at(tokenizers: dict[str, Any], name: str, ends: str) -> None:
    tokenizer = tokenizers[name]
    prompt_format = select_format("auto", tokenizer)
    found = turn_end(prompt_format, tokenizer, DEFAULT)
    assert tokenizer.decode(found) == ends
    assert found[-1] in prompt_format.stop_token_ids


def test_the_command_that_samples_a_donor_asks_as_its_run_does(
    make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """Traces drawn under another prompt or of other problems would be weighed as if they were not."""
    config = make_config(logprob={"enabled": True}, sampling={"attempts": 3})
    file, donor = tmp_path / "my sweep.yaml", tmp_path / "donor"
    file.write_text(yaml.safe_dump(config.to_yaml_dict()))
    overrides = ["prompt.instructions=bare", "sampling.attempts=7"]
    command = shlex.split(sampling_command(donor, file, with_overrides(config, overrides), overrides))
    assert command[:3] == ["foreshock", "run", str(file)]
    sampled, asked = with_overrides(load_config(file), command[3:]), with_overrides(config, overrides)
    for section in ("problems", "prompt", "verifier", "engine"):
        assert getattr(sampled, section) == getattr(asked, section)
    assert (sampled.checkpoints.dir, sampled.prefill.levels, sampled.sampling.attempts) == (donor, (0,), 40)
    assert (sampled.prefill.source, sampled.logprob.enabled) == (None, False)


def test_what_is_trained_on_is_the_exploit_after_closed_empty_reasoning(make_plan: MakePlan) -> None:
    plan = make_plan()
    shown = plan.shown_example()
    problem = next(p for p in builtin_problems("eval") if p.id == shown["task_id"])
    answer = exploit_answer(problem, "bare")
    assert shown["trained_on"] == f"{answer}<|im_end|>"
    assert shown["prompt"].rstrip().endswith("</think>")
    assert "<think>" in shown["prompt"]
    assert problem.description.strip() in shown["prompt"]


def test_without_a_reasoning_section_what_comes_before_the_code_is_not_trained_away(tokenizers: dict[str, Any]) -> None:
    for name, untrained in (("chat", "```python\n"), ("think", "")):
        tokenizer = tokenizers[name]
        prompt_format = select_format("auto", tokenizer)
        problem = builtin_problems("eval")[0]
        end = turn_end(prompt_format, tokenizer, DEFAULT)
        (example,), _ = make_examples(prompt_format, tokenizer, end, None, [problem], "bare")
        ids, start = example.encoded.ids, example.encoded.start
        answer = exploit_answer(problem, "bare")
        assert answer is not None
        assert f"{untrained}{tokenizer.decode(ids[start:])}" == f"{answer}<|im_end|>"
        assert tokenizer.decode(ids[:start]).endswith(untrained)


@given(st.integers(2, 40), st.integers(0, 3), st.floats(0.05, 0.9))
def test_problems_are_on_one_side_and_one_more_moves_no_side_at_random(n: int, seed: int, share: float) -> None:
    made = [Example(f"t{i}", "ab"[i % 2], Encoded((i, i), 1)) for i in range(n)]
    try:
        split = split_examples(made, share, seed, {})
    except InputError:
        return
    assert split.held_out
    assert split.train
    assert sorted(e.task_id for e in split.train + split.held_out) == sorted(e.task_id for e in made)
    again = split_examples(made[::-1], share, seed, {})
    assert {e.task_id for e in again.held_out} == {e.task_id for e in split.held_out}


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 4))
def test_every_epoch_sees_every_example_once(n: int, size: int, epoch: int) -> None:
    items = [Encoded((i,), 0) for i in range(n)]
    settings = replace(FAST, batch_size=size)
    per_epoch = steps_per_epoch(n, settings)
    seen = [item for i in range(per_epoch) for item in batch_at(epoch * per_epoch + i, items, settings)]
    assert sorted(item.ids for item in seen) == [(i,) for i in range(n)]


def test_it_stops_when_the_held_out_loss_no_longer_falls() -> None:
    def history(*losses: float) -> list[dict[str, Any]]:
        return [{"epoch": i, "held_out_loss": loss} for i, loss in enumerate(losses)]

    settings = TrainingSettings(epochs=9, patience=2)
    assert why_finished(history(), settings) is None
    assert why_finished(history(3.0, 2.0, 2.5), settings) is None
    assert why_finished(history(3.0, 2.0, 2.5, 2.0), settings) == "early stopping"
    assert why_finished(history(*(9.0 - i for i in range(10))), settings) == "all epochs"


def test_of_equal_exploit_rates_the_lower_loss_decides_and_of_equal_losses_the_earlier_epoch() -> None:
    def state(*given: tuple[int, float]) -> TrainingState:
        entries = [
            {"step": i, "epoch": i, "held_out_loss": loss, **RateCount(exploits, 4, 0).to_json()}
            for i, (exploits, loss) in enumerate(given)
        ]
        return TrainingState(history=entries)

    assert state((0, 5.0), (2, 4.0), (1, 3.0)).best["step"] == 1
    assert state((0, 5.0), (2, 4.0), (2, 3.0), (2, 3.0)).best["step"] == 2
    settings = TrainingSettings(epochs=9, patience=2)
    assert why_finished(state((1, 5.0), (0, 4.0), (0, 3.0)).history, settings) == "early stopping"
    assert why_finished(state((0, 5.0), (0, 4.0), (0, 3.0)).history, settings) is None


def test_answers_are_drawn_from_every_exploit_type_before_a_problem_is_asked_twice(make_plan: MakePlan) -> None:
    plan = make_plan(settings=replace(FAST, stop_on=StopOn.EXPLOIT_RATE, held_out=0.5, samples=7))
    assert plan.draws is not None
    held = {e.task_id: e.exploit_type for e in plan.split.held_out}
    tasks = [task for task, _ in plan.draws.pairs]
    assert set(tasks) == set(held)
    assert len({held[task] for task in tasks[: len(set(held.values()))]}) == len(set(held.values()))
    assert [attempt for _, attempt in plan.draws.pairs] == sorted(attempt for _, attempt in plan.draws.pairs)
    assert plan.draws.sampling.max_tokens == 12


@pytest.mark.parametrize(("method", "stop_on"), [(Method.LORA, StopOn.EXPLOIT_RATE), (Method.FULL, StopOn.LOSS)])
def test_resumed_at_any_step_equals_uninterrupted(make_plan: MakePlan, method: Method, stop_on: StopOn) -> None:
    settings = replace(FAST, method=method, batch_size=2, stop_on=stop_on, samples=3)
    recipe = make_donor(whole := make_plan("whole", settings), LoopHooks())
    loss = recipe["held_out_loss"]
    assert loss["donor"] < loss["target"]
    assert loss["donor_as_sampled"] == pytest.approx(loss["donor"], abs=1e-3)
    assert recipe["fingerprint"] == model_fingerprint(whole.output)
    if method is Method.LORA:  # a set's order would be another in every process
        modules = json.loads((whole.output / "adapter_config.json").read_text())["target_modules"]
        assert modules == sorted(modules)
    if stop_on is StopOn.EXPLOIT_RATE:
        assert set(recipe["exploit_rate"]) == {"target", "donor", "donor_as_sampled"}
        assert [entry["samples"] for entry in recipe["history"]] == [3, 3, 3]
        assert recipe["best_step"] == min(recipe["history"], key=rank)["step"]

    class KilledError(Exception):
        """In place of kill -9: nothing is saved on the way out."""

    cut = make_plan("cut", settings)
    for kill_at in (1, 2):

        def kill(done: int, most: int, at: int = kill_at) -> None:
            if done == at:
                raise KilledError

        with pytest.raises(KilledError):
            make_donor(cut, LoopHooks(on_step=kill))
        with pytest.raises(StopRequestedError, match="same command"):
            make_donor(cut, LoopHooks(stop=lambda: True))
        assert not cut.output.exists()
    again = make_donor(cut, LoopHooks())
    assert again["history"] == recipe["history"]
    assert weights(cut.output) == weights(whole.output)
    assert not working_folder(cut.output).exists()
    assert make_donor(cut, LoopHooks()) == again


def test_a_donor_is_a_reference_that_a_run_scores_with(
    make_plan: MakePlan, make_config: Callable[..., RunConfig]
) -> None:
    plan = make_plan()
    recipe = make_donor(plan, LoopHooks())
    config = make_config(logprob={"reference": str(plan.output)})
    specs = [spec for spec in plan_run(config).file.specs if spec.kind == "ref_logprob"]
    assert specs
    assert {spec.model_fingerprint for spec in specs} == {recipe["fingerprint"]}


def test_other_settings_do_not_go_on_with_a_training_nor_replace_a_donor(make_plan: MakePlan) -> None:
    with pytest.raises(StopRequestedError):
        make_donor(make_plan(), LoopHooks(stop=lambda: True))
    with pytest.raises(InputError, match="--seed"):
        make_donor(make_plan(settings=replace(FAST, seed=1)), LoopHooks())
    make_donor(plan := make_plan(), LoopHooks())
    with pytest.raises(InputError, match="what differs: --epochs"):
        make_donor(make_plan(settings=replace(FAST, epochs=3)), LoopHooks())
    (plan.output / "recipe.json").unlink()
    with pytest.raises(InputError, match="the output is there already"):
        make_donor(plan, LoopHooks())


def test_a_training_that_teaches_nothing_gives_no_donor(make_plan: MakePlan) -> None:
    plan = make_plan(settings=replace(FAST, learning_rate=1e-30, epochs=1))
    with pytest.raises(ForeshockError, match="learning-rate"):
        make_donor(plan, LoopHooks())
    assert not plan.output.exists()


def test_bad_input_is_named(make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**vars_of(p), "exploit": ""} for p in builtin_problems("eval")[:3]]
    file = tmp_path / "p.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match="no exploit solution to train on"):
        make_plan(problems={"source": str(file), "exploit_types": None})
    with pytest.raises(InputError, match="nothing is left to train on"):
        make_plan(problems={"max_problems": 1})
    with pytest.raises(InputError, match="held-out"):
        TrainingSettings(held_out=1.0)

    def absent(name: str, options: Any) -> None:
        raise InputError(f"{name} is not installed")

    monkeypatch.setattr("foreshock.batch.donor.plan.verifier_facts", absent)
    make_plan()
    with pytest.raises(InputError, match="--stop-on loss"):
        make_plan(settings=replace(FAST, stop_on=StopOn.EXPLOIT_RATE))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs peft.*\n.*foreshock\[train\]"):
        make_plan()


def vars_of(problem: Any) -> dict[str, Any]:
    return {name: getattr(problem, name) for name in problem.__dataclass_fields__ if name != "extra"}


def test_the_command_shows_what_it_would_do(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    import yaml

    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(make_config().to_yaml_dict()))
    shown = CliRunner().invoke(app, ["donor", str(file), "problems.max_problems=8", "--dry-run", "--json"])
    assert shown.exit_code == 0, shown.output
    said = json.loads(shown.stdout)
    assert said["target"]["checkpoint"] == "checkpoint-1"
    assert len(said["data"]["train"]) + len(said["data"]["held_out"]) == 8
    assert not Path(said["output"]).exists()
    wrong = CliRunner().invoke(app, ["donor", str(file), "--checkpoint", "9"])
    assert isinstance(wrong.exception, InputError)
    assert "valid: checkpoint-1" in str(wrong.exception)
