"""Where in a checkpoint's directory the model lies, and training formats that must be merged before anything can load.

Trainers save beside or instead of a loadable model what they need to go on: shards of FSDP, DeepSpeed or Megatron. Such
a directory is named together with the command that turns it into a model, never passed over.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from foreshock.errors import InputError

WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin", "adapter_model.bin")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json", "tekken.json")
_CONFIGS = ("config.json", "adapter_config.json")
_INSIDE = (
    "actor/huggingface",
    "actor/lora_adapter",
    "actor",
    "huggingface",
    "hf_model",
    "hf",
    "lora_adapter",
    "policy/weights/model",
    "policy/weights",
    "policy",
    "weights",
    "model",
)
"""Where trainers put the loadable model inside a step's directory (verl, prime-rl, NeMo-RL and others)."""


class ShardedCheckpointError(InputError):
    """A directory in a format that nothing but its trainer loads; the message holds the command that converts it."""


@dataclass(frozen=True, slots=True)
class ShardedFormat:
    """A format found in a directory, and the command that makes a loadable model of it."""

    name: str
    path: Path
    command: str
    what: str = "sharded training state"

    def error(self) -> ShardedCheckpointError:
        """The error that names format and command."""
        return ShardedCheckpointError(
            f"{self.name}: {self.what}, which cannot be loaded as a model", path=self.path, fix=self.command
        )


def holds_model(path: Path) -> bool:
    """Whether the directory itself holds a configuration and weights."""
    return any((path / name).is_file() for name in _CONFIGS) and any(
        True for pattern in WEIGHT_PATTERNS for _ in path.glob(pattern)
    )


def model_folder(path: Path) -> Path:
    """The directory to load: `path`, or the folder inside it where its trainer put the model."""
    if holds_model(path):
        return path
    return next((path / inside for inside in _INSIDE if holds_model(path / inside)), path)


def rival_folders(path: Path) -> list[Path]:
    """Folders inside a step's directory that hold models beside one another, so that which is meant is not said; empty
    if there is one at most, or the directory itself holds the model."""
    found = [] if holds_model(path) else [path / inside for inside in _INSIDE if holds_model(path / inside)]
    outer = [folder for folder in found if not any(other in folder.parents for other in found)]
    return outer if len(outer) > 1 else []


def tokenizer_folder(path: Path, up_to: Path | None = None) -> Path | None:
    """The nearest directory with a tokenizer, from the model's own up to its parent; None if there is none.

    Trainers that save adapters or weights alone leave the tokenizer beside the steps. `up_to`: a directory further up
    to which it may lie, where the model lies deeper inside its step's directory.
    """
    last = path.parent if up_to is None else up_to
    folders = [path, *path.parents]
    folders = folders[: folders.index(last) + 1] if last in folders else folders[:2]
    near = [place for folder in folders for place in (folder, folder / "tokenizer")]  # NeMo-RL's policy/tokenizer
    return next((f for f in near if any((f / name).is_file() for name in TOKENIZER_FILES)), None)


def sharded_format(path: Path) -> ShardedFormat | None:
    """The format, of training or of another program, that a directory without a loadable model holds; None if it is
    none that is known."""
    for look in (_verl, _deepspeed, _accelerate_fsdp, _megatron, _torch_distributed, _other):
        found = look(path)
        if found is not None:
            return found
    return None


def _verl(path: Path) -> ShardedFormat | None:
    for folder in (path, path / "actor", path / "policy"):  # SkyRL's is the last
        if any(folder.glob("model_world_size_*_rank_*.pt")):
            return _verl_format(folder, "fsdp")
        if (folder / "dist_ckpt").is_dir() and (folder / "huggingface").is_dir():
            return _verl_format(folder, "megatron")
    return None


def _verl_format(folder: Path, backend: str) -> ShardedFormat:
    where, target = shlex.quote(str(folder)), shlex.quote(str(folder / "huggingface"))
    command = f"python -m verl.model_merger merge --backend {backend} --local_dir {where} --target_dir {target}"
    return ShardedFormat(f"verl ({backend.upper() if backend == 'fsdp' else 'Megatron'})", folder, command)


def _deepspeed(path: Path) -> ShardedFormat | None:
    for folder in (path, *sorted(path.glob("global_step*")), path / "checkpoint"):  # Lightning's is the last
        if any(folder.glob("*_optim_states.pt")) or any(folder.glob("*_model_states.pt")):
            start = path.parent if folder == path else path
            script = start / "zero_to_fp32.py"
            tool = shlex.quote(str(script)) if script.is_file() else "-m deepspeed.utils.zero_to_fp32"
            command = (
                f"python {tool} {shlex.quote(str(start))} {shlex.quote(str(path))} --safe_serialization "
                f"--tag {shlex.quote(folder.name)}, then copy config.json and the tokenizer of the base model beside it"
            )
            return ShardedFormat("DeepSpeed (ZeRO)", path, command)
    return None


def _accelerate_fsdp(path: Path) -> ShardedFormat | None:
    for folder in sorted(path.glob("pytorch_model_fsdp*")):
        if folder.is_dir():
            command = (
                f"accelerate merge-weights {shlex.quote(str(folder))} {shlex.quote(str(path))}, then copy config.json "
                "and the tokenizer of the base model beside it"
            )
            return ShardedFormat("FSDP (accelerate)", path, command)
    return None


def _megatron(path: Path) -> ShardedFormat | None:
    ranks = any(path.glob("mp_rank_*/model_optim_rng.pt")) or any(path.glob("mp_rank_*/model_rng.pt"))
    distributed = any(path.glob("*.distcp")) and (path / "common.pt").is_file()
    named = re.fullmatch(r"iter_\d+", path.name) is not None and any(path.glob("mp_rank_*"))
    if not (ranks or distributed or named):
        return None
    command = (
        "python examples/conversion/convert_checkpoints.py export --hf-model BASE_MODEL --megatron-path "
        f"{shlex.quote(str(path))} --hf-path {shlex.quote(str(path.parent / 'hf' / path.name))} (Megatron-Bridge)"
    )
    return ShardedFormat("Megatron", path, command)


def _torch_distributed(path: Path) -> ShardedFormat | None:
    for folder in (path, path / "model", path / "trainer", path / "policy" / "weights", path / "weights"):
        if any(folder.glob("*.distcp")):
            target = shlex.quote(str(path / "pytorch_model.bin"))
            command = (
                f"python -m torch.distributed.checkpoint.format_utils dcp_to_torch {shlex.quote(str(folder))} "
                f"{target}, then save it with the base model's save_pretrained"
            )
            return ShardedFormat("FSDP (torch.distributed.checkpoint)", path, command)
    return None


_SAVE = "load it where it was trained and write it with save_pretrained, or with the trainer's own export"
_OTHER: tuple[tuple[str, str, str], ...] = (
    ("*.gguf", "GGUF", "serve it with llama.cpp and use engine openai, or give the model that it was made from"),
    (
        "consolidated.*.pth",
        "Meta's own layout",
        "python -m transformers.models.llama.convert_llama_weights_to_hf --input_dir {path} --output_dir OUT",
    ),
    ("lit_model.pth", "LitGPT", "litgpt convert_from_litgpt {path} OUT"),
    ("*.nemo", "NeMo", _SAVE),
    ("_CHECKPOINT_METADATA", "Orbax (JAX)", _SAVE),
    ("*.msgpack", "Flax", _SAVE),
    ("checkpoint_metadata.json", "nanotron", _SAVE),
    ("*.ckpt", "PyTorch Lightning", _SAVE),
    ("*.pth", "a file of torch.save", _SAVE),
    ("*.pt", "a file of torch.save", _SAVE),
)
"""(files, format, what to do), the surest first."""

_LIKE_WEIGHTS = re.compile(r"(?i)model|weight|state_dict|pytorch|ckpt|checkpoint|step|epoch|iter")
_BESIDE_A_MODEL = re.compile(r"(?i)optim|sched|rng|random|scaler|training_args|custom_checkpoint|trainer")
"""What trainers write beside a model to go on from, by its names."""


def _other(path: Path) -> ShardedFormat | None:
    """Formats of other programs: whole models, in files that are not read here."""
    for pattern, name, command in _OTHER:
        files = [f for f in sorted(path.glob(pattern)) if f.is_file() and not _BESIDE_A_MODEL.search(f.name)]
        if pattern.startswith("*.pt"):  # a name that says nothing may hold anything
            files = [f for f in files if _LIKE_WEIGHTS.search(f.stem)]
        file = next(iter(files), None)
        if file is not None:
            where = shlex.quote(str(path))
            return ShardedFormat(
                name, path, command.replace("{path}", where), f"a checkpoint in its format ({file.name})"
            )
    return None
