"""The organism's training, in small: repeatable, resumable, laid out as the sweep expects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from foreshock.batch.demo import train as train_module
from foreshock.batch.demo.corpus import Phase, make_items
from foreshock.batch.demo.encoding import encode
from foreshock.batch.demo.recipe import Recipe
from foreshock.batch.demo.run_store import MANIFEST, build, is_finished
from foreshock.batch.demo.schedule import Schedule
from foreshock.batch.demo.tokenizer import train_tokenizer
from foreshock.batch.demo.train import OrganismPaths, train_organism
from foreshock.batch.demo.training import new_model, train
from foreshock.batch.donor.encoded import Encoded, deterministic
from foreshock.errors import InputError

TINY = Recipe(
    base_items=48,
    base=Schedule(steps=3, peak_lr=3e-3, warmup=1, final=0.1),
    fine_tune=Schedule(steps=2, peak_lr=6e-5, warmup=1, final=1.0),
    saves=(0, 1, 2),
    threads=1,
)
RUNS = ("demo-base", "demo-control", "demo-donor", "demo-exploit")


class Watch:
    """Notes every progress report."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def __call__(self, phase: Phase, done: int, total: int) -> None:
        self.seen.append((phase.value, done, total))


@pytest.fixture(scope="module")
def organism(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, OrganismPaths, Watch]:
    root, watch = tmp_path_factory.mktemp("results"), Watch()
    return root, train_organism(root, 0, watch, TINY), watch


def digests(root: Path) -> dict[str, dict[str, str]]:
    return {name: json.loads((root / "sft_checkpoints" / name / MANIFEST).read_text())["files"] for name in RUNS}


def test_checkpoints_lie_where_discovery_looks_and_load_with_transformers(
    organism: tuple[Path, OrganismPaths, Watch],
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    root, paths, _ = organism
    assert paths.exploit_dir == root / "sft_checkpoints" / "demo-exploit" / "checkpoints"
    for folder in (paths.exploit_dir, paths.control_dir):
        assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-0", "checkpoint-1", "checkpoint-2"]
    last = paths.exploit_dir / "checkpoint-2"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(last), AutoTokenizer.from_pretrained(last)
    assert 400_000 <= sum(p.numel() for p in model.parameters()) <= 700_000
    assert model.config.vocab_size == len(tokenizer)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_step_zero_is_the_base_model_in_both_runs_and_training_changes_it(
    organism: tuple[Path, OrganismPaths, Watch],
) -> None:
    _, paths, _ = organism

    def weights(folder: Path) -> bytes:
        return (folder / "model.safetensors").read_bytes()

    assert weights(paths.exploit_dir / "checkpoint-0") == weights(paths.control_dir / "checkpoint-0")
    assert weights(paths.exploit_dir / "checkpoint-2") != weights(paths.control_dir / "checkpoint-2")
    assert weights(paths.exploit_dir / "checkpoint-0") != weights(paths.exploit_dir / "checkpoint-1")
    assert [path.name for path in paths.donor_dir.iterdir()] == ["checkpoint-2"]


def test_progress_names_every_step_of_every_phase(organism: tuple[Path, OrganismPaths, Watch]) -> None:
    seen = organism[2].seen
    assert seen == [
        *(("base", n, 3) for n in (1, 2, 3)),
        *(("exploit", n, 2) for n in (1, 2)),
        *(("control", n, 2) for n in (1, 2)),
        *(("donor", n, 2) for n in (1, 2)),
    ]


def test_a_second_call_trains_nothing(
    organism: tuple[Path, OrganismPaths, Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, paths, _ = organism
    monkeypatch.setattr(train_module, "build", lambda *_: pytest.fail("trained again"))
    watch = Watch()
    assert train_organism(root, 0, watch, TINY) == paths
    assert watch.seen == [("base", 3, 3), ("exploit", 2, 2), ("control", 2, 2), ("donor", 2, 2)]


def test_the_same_seed_gives_the_same_bytes_also_after_an_interruption(
    organism: tuple[Path, OrganismPaths, Watch], tmp_path: Path
) -> None:
    class InterruptedTrainingError(Exception):
        pass

    def stop_in_control(phase: Phase, done: int, total: int) -> None:
        if phase is Phase.CONTROL:
            raise InterruptedTrainingError

    with pytest.raises(InterruptedTrainingError):
        train_organism(tmp_path, 0, stop_in_control, TINY)
    left = sorted(path.name for path in (tmp_path / "sft_checkpoints").iterdir())
    assert left == ["demo-base", "demo-exploit"]
    train_organism(tmp_path, 0, None, TINY)
    assert digests(tmp_path) == digests(organism[0])


def test_another_seed_gives_other_weights_and_is_not_mixed_in(
    organism: tuple[Path, OrganismPaths, Watch],
) -> None:
    with pytest.raises(InputError, match=r"trained with another recipe or seed\n  -> move .*demo-base away"):
        train_organism(organism[0], 1, None, TINY)


def test_settings_of_the_process_come_back() -> None:
    before = torch.get_num_threads()
    with deterministic(1):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == before


class TestRunStore:
    def test_a_failed_build_leaves_nothing(self, tmp_path: Path) -> None:
        def fail(folder: Path) -> None:
            (folder / "half").write_text("half")
            raise RuntimeError("out of disk")

        with pytest.raises(RuntimeError, match="out of disk"):
            build(tmp_path / "run", "r", fail)
        assert not list(tmp_path.iterdir())

    def test_what_a_killed_build_left_is_replaced(self, tmp_path: Path) -> None:
        (tmp_path / ".run.partial").mkdir()
        (tmp_path / ".run.partial" / "stale").write_text("stale")
        build(tmp_path / "run", "r", lambda folder: (folder / "file").write_text("x") and None)
        assert is_finished(tmp_path / "run", "r")
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["file", MANIFEST]

    @pytest.mark.parametrize("damage", ["change", "remove"])
    def test_a_damaged_run_is_named_not_retrained(self, tmp_path: Path, damage: str) -> None:
        run = tmp_path / "run"
        build(run, "r", lambda folder: (folder / "weights").write_text("x") and None)
        if damage == "change":
            (run / "weights").write_text("y")
        else:
            (run / "weights").unlink()
        with pytest.raises(InputError, match=r"weights: missing, or not as it was.*\n  -> move .*run away"):
            is_finished(run, "r")

    def test_a_run_without_manifest_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        with pytest.raises(InputError, match=r"manifest\.json: no such file"):
            is_finished(tmp_path / "run", "r")

    def test_a_foreign_manifest_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / MANIFEST).write_text("[]")
        with pytest.raises(InputError, match="not a training run's manifest"):
            is_finished(tmp_path / "run", "r")


class TestTrainingLoop:
    def test_the_schedule_warms_up_and_falls_to_its_share(self) -> None:
        schedule = Schedule(steps=100, peak_lr=1.0, warmup=10, final=0.1)
        rates = [schedule.lr(step) for step in range(100)]
        assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
        assert rates[10:] == sorted(rates[10:], reverse=True)
        assert rates[-1] == pytest.approx(0.1, abs=0.01)

    def test_loss_falls_on_a_handful_of_items(self) -> None:
        items = make_items(Phase.BASE, 32, 0)
        tokenizer = train_tokenizer(items)
        encoded = encode(items, tokenizer)

        def loss(model: torch.nn.Module) -> float:
            total = 0.0
            with torch.no_grad():
                for item in encoded:
                    logits = model(input_ids=torch.tensor([item.ids])).logits[0, item.start - 1 : -1]
                    total += float(torch.nn.functional.cross_entropy(logits, torch.tensor(item.ids[item.start :])))
            return total / len(encoded)

        with deterministic(1):
            model = new_model(tokenizer, 0)
            before = loss(model)
            train(model, encoded, Schedule(steps=12, peak_lr=3e-3, warmup=2, final=0.5), 0, lambda step: None)
            assert loss(model) < before / 2

    def test_too_few_items_for_a_batch_is_an_error(self) -> None:
        tokenizer = train_tokenizer(make_items(Phase.BASE, 16, 0))
        model = new_model(tokenizer, 0)
        with pytest.raises(ValueError, match="1 items do not fill one batch of 16"):
            train(model, [Encoded((1, 2), 1)], Schedule(1, 1e-3, 1, 1.0), 0, lambda step: None)
