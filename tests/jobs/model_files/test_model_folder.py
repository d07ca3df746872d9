"""Where a step's model lies, and training formats with the command that merges them."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreshock.jobs.model_files.fingerprint import check_checkpoint
from foreshock.jobs.model_files.model_folder import (
    ShardedCheckpointError,
    model_folder,
    sharded_format,
    tokenizer_folder,
)


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}")
    return root


@pytest.mark.parametrize("inside", [".", "actor/huggingface", "actor/lora_adapter", "huggingface", "policy/weights"])
def test_the_model_is_found_where_its_trainer_put_it(tmp_path: Path, inside: str) -> None:
    put(tmp_path / "step-5", f"{inside}/config.json", f"{inside}/model.safetensors", "optimizer.pt")
    assert model_folder(tmp_path / "step-5") == tmp_path / "step-5" / inside


def test_a_configuration_without_weights_is_no_model(tmp_path: Path) -> None:
    step = put(tmp_path / "global_step_5", "actor/huggingface/config.json", "actor/model_world_size_2_rank_0.pt")
    assert model_folder(step) == step


@pytest.mark.parametrize(
    ("files", "name", "command"),
    [
        (["actor/model_world_size_2_rank_0.pt"], "verl (FSDP)", "verl.model_merger merge --backend fsdp --local_dir"),
        (
            ["actor/dist_ckpt/x.distcp", "actor/huggingface/config.json"],
            "verl (Megatron)",
            "verl.model_merger merge --backend megatron",
        ),
        (
            ["global_step5/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "zero_to_fp32.py", "config.json"],
            "DeepSpeed (ZeRO)",
            "zero_to_fp32.py",
        ),
        (["global_step5/zero_pp_rank_0_mp_rank_00_model_states.pt", "config.json"], "DeepSpeed (ZeRO)", "zero_to_fp32"),
        (["checkpoint/mp_rank_00_model_states.pt"], "DeepSpeed (ZeRO)", "--tag checkpoint"),
        (["zero_pp_rank_0_mp_rank_00_optim_states.pt"], "DeepSpeed (ZeRO)", "-m deepspeed.utils.zero_to_fp32"),
        (["pytorch_model_fsdp_0/__0_0.distcp", "pytorch_model_fsdp_0/.metadata"], "FSDP (accelerate)", "merge-weights"),
        (["mp_rank_00/model_optim_rng.pt"], "Megatron", "convert_checkpoints.py export"),
        (["common.pt", "__0_0.distcp", "metadata.json"], "Megatron", "convert_checkpoints.py export"),
        (["__0_0.distcp", ".metadata"], "FSDP (torch.distributed.checkpoint)", "dcp_to_torch"),
    ],
)
def test_training_formats_are_named_with_the_merging_command(
    tmp_path: Path, files: list[str], name: str, command: str
) -> None:
    step = put(tmp_path / "global_step_5", *files)
    found = sharded_format(step)
    assert found is not None
    assert found.name == name
    assert command in found.command
    with pytest.raises(ShardedCheckpointError, match="sharded training state"):
        check_checkpoint(step)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("model.gguf", "GGUF"),
        ("consolidated.00.pth", "Meta's own layout"),
        ("lit_model.pth", "LitGPT"),
        ("epoch=3-step=1000.ckpt", "PyTorch Lightning"),
        ("step_100.pt", "a file of torch.save"),
        ("rng_state_0.pth", None),
        ("optimizer.pt", None),
        ("dataset.pt", None),
    ],
)
def test_formats_of_other_programs_are_named_and_what_lies_beside_a_model_is_none(
    tmp_path: Path, file: str, name: str | None
) -> None:
    found = sharded_format(put(tmp_path, file))
    assert (found and found.name) == name
    assert found is None or file in str(found.error())


def test_the_nearest_tokenizer_counts_and_none_beyond_the_steps(tmp_path: Path) -> None:
    step = tmp_path / "steps" / "step-5"
    put(step, "adapter_config.json")
    assert tokenizer_folder(step) is None
    put(tmp_path, "tokenizer.json")
    assert tokenizer_folder(step) is None
    assert tokenizer_folder(step / "actor", step.parent) is None
    put(step.parent, "tokenizer.json")
    assert tokenizer_folder(step) == step.parent
    put(step, "tokenizer.json")
    assert tokenizer_folder(step) == step
    assert tokenizer_folder(step / "actor", step.parent) == step
