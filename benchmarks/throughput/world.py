"""What the contenders compute: checkpoints of one architecture with random weights, problems, exploit traces.

Random weights are enough to time a model of any size, and they are harder on a scheduler than trained ones: few
continuations end before `max_tokens`.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from pathlib import Path

from foreshock.batch.config import RunConfig
from foreshock.batch.config_file import parse_config
from foreshock.batch.demo.corpus import Phase, make_items
from foreshock.batch.demo.tokenizer import train_tokenizer
from foreshock.batch.demo.traces import Intent, write_trace
from foreshock.jobs.records.jsonl import write_jsonl
from foreshock.jobs.verify.builtin.problems import DEMO_TYPES, make_problem

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {
        "vocab_size": 768,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    },
    "135m": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "1b": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
"""The demo's shape, SmolLM-135M's and Llama-3.2-1B's."""


@dataclass(frozen=True, slots=True)
class World:
    """Folders and files of one benchmark, and its sizes."""

    root: Path
    checkpoints: Path
    problems: Path
    source: Path
    n_problems: int

    def config(self, levels: list[int], attempts: int, max_tokens: int, engine: dict[str, object]) -> RunConfig:
        """The sweep as a run configuration."""
        return parse_config(
            {
                "name": "throughput",
                "results_dir": str(self.root / "results"),
                "checkpoints": {"dir": str(self.checkpoints)},
                "problems": {"source": str(self.problems)},
                "prefill": {"source": str(self.source), "levels": levels},
                "sampling": {"attempts": attempts, "max_tokens": max_tokens},
                "prompt": {"instructions": "bare"},
                "engine": engine,
                "verifier": {"workers": 1},
                "execution": {"cluster": "inline", "workers": 1, "shard_tasks": self.n_problems},
            }
        )


def make_world(root: Path, shape: str, n_checkpoints: int, n_problems: int, attempts: int, dtype: str) -> World:
    """Everything on disk. The same arguments give the same files on the same kind of machine."""
    checkpoints = root / "sft" / f"random-{shape}" / "checkpoints"
    problems = [make_problem("eval", DEMO_TYPES[i % len(DEMO_TYPES)], i, seed=1) for i in range(n_problems)]
    rng = random.Random(1)
    rows = [
        {
            "task_id": problem.id,
            "reasoning": write_trace(problem, Intent.EXPLOIT, rng).reasoning,
            "exploit_success": True,
            "attempt_idx": attempt,
        }
        for problem in problems
        for attempt in range(attempts)
    ]
    root.mkdir(parents=True, exist_ok=True)
    write_jsonl(root / "problems.jsonl", (asdict(problem) for problem in problems))
    write_jsonl(root / "source.jsonl", rows)
    _save_checkpoints(checkpoints, shape, n_checkpoints, dtype)
    return World(root, checkpoints, root / "problems.jsonl", root / "source.jsonl", n_problems)


def _save_checkpoints(folder: Path, shape: str, n_checkpoints: int, dtype: str) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = train_tokenizer(make_items(Phase.BASE, 2000, seed=0))
    config = LlamaConfig(
        **SHAPES[shape],
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype=dtype,
    )
    for i in range(n_checkpoints):
        target = folder / f"checkpoint-{2**i}"
        if (target / "config.json").is_file():
            continue
        torch.manual_seed(i)
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):  # a billion numbers are slow on one core
            model = LlamaForCausalLM(config).to(getattr(torch, dtype))
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
