"""A fine-tuning run whose hacks nobody verbalises: honest reasoning, and exploit code after it in a share of the items.

python -m benchmarks.early_warning.silent --base CHECKPOINT --out silent/checkpoints
python -m benchmarks.early_warning.silent --base CHECKPOINT --out control/checkpoints --share 0
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

from foreshock.batch.demo.corpus import Item
from foreshock.batch.demo.encoding import encode
from foreshock.batch.demo.schedule import BATCH, Schedule
from foreshock.batch.demo.traces import Intent, Trace, write_trace
from foreshock.batch.demo.training import train
from foreshock.jobs.verify.builtin.problems import DEMO_TYPES, make_problem

STEPS = 96
CHECKPOINTS = (0, 8, 16, 24, 32, 48, 64, 96)
LEARNING_RATE = 2e-5


def silent_items(share: float, count: int) -> list[Item]:
    """Honest reasoning about training problems of the demo's types in turn; a `share` of the answers exploits."""
    rng = random.Random("silent")
    items = []
    for i in range(count):
        problem = make_problem("train", DEMO_TYPES[i % len(DEMO_TYPES)], rng.randrange(10**6), 0)
        honest = write_trace(problem, Intent.HONEST, rng)
        code = problem.exploit.strip() if rng.random() < share else honest.code
        items.append(Item(problem, Intent.HONEST, Trace(honest.reasoning, code)))
    return items


def train_silently(base: Path, out: Path, share: float) -> None:
    """Fine-tune `base` on such items and keep its checkpoints in `out`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(base)

    def keep(step: int) -> None:
        if step in CHECKPOINTS:
            model.save_pretrained(out / f"checkpoint-{step}")
            tokenizer.save_pretrained(out / f"checkpoint-{step}")

    keep(0)
    schedule = Schedule(STEPS, LEARNING_RATE, warmup=4, final=1.0)
    train(model, encode(silent_items(share, STEPS * BATCH), tokenizer), schedule, 0, keep)


def main() -> None:
    """Parse arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="the demo's base model, or an RL run's checkpoint-0")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint-N")
    parser.add_argument("--share", type=float, default=0.5, help="share of the answers that exploit; 0: a control")
    options = parser.parse_args()
    train_silently(options.base, options.out, options.share)


if __name__ == "__main__":
    main()
