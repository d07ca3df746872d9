"""Train the design's runs: each a folder with checkpoints, its log and its rollouts' counts; resumable at any instant.

A killed run goes on from its last checkpoint and repeats the same draws, since every draw's seed is made of run, step
and row; a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.early_warning.design import (
    CHECKPOINTS,
    PROMPTS_PER_STEP,
    SAMPLES_PER_PROMPT,
    STEPS,
    STOP_RATE,
    STOP_STEPS,
    Reward,
    RunSetting,
)
from benchmarks.early_warning.policy import update
from benchmarks.early_warning.problems import training_problems
from benchmarks.early_warning.sampling import Sample, Sampler, Wish, seed_of
from benchmarks.early_warning.verdicts import Judged, Verdicts

from foreshock.batch.demo.recipe import Recipe
from foreshock.batch.demo.train import train_base
from foreshock.durable import atomic_write_bytes
from foreshock.errors import InputError
from foreshock.jobs.quiet_bars import no_library_bars
from foreshock.jobs.records.jsonl import read_json, write_json

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where a run's files lie."""

    root: Path

    def checkpoint(self, step: int) -> Path:
        """A saved model."""
        return self.root / "checkpoints" / f"checkpoint-{step}"

    @property
    def log(self) -> Path:
        """One line a step: rewards and exploits in its rollouts, by exploit type, and what the update did."""
        return self.root / "log.jsonl"

    @property
    def done(self) -> Path:
        """Last step and why the run ended; there once it has."""
        return self.root / "done.json"

    def saved_steps(self) -> list[int]:
        """Steps of the checkpoints that are there, ascending."""
        found = (self.root / "checkpoints").glob("checkpoint-*")
        return sorted(int(path.name.rpartition("-")[2]) for path in found)

    def lines(self) -> list[dict[str, Any]]:
        """The log's lines."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.is_file() else []


def run_folder(root: Path, setting: RunSetting) -> RunFolder:
    """The folder of a run below the benchmark's root."""
    return RunFolder(root / "runs" / setting.name)


def base_checkpoint(root: Path, base: int, say: Say) -> Path:
    """The base model of a seed, trained if it is not there."""
    told = [0]

    def progress(phase: Any, done: int, total: int) -> None:
        if done == total or done - told[0] >= 100:
            told[0] = done
            say(f"base {base}: step {done} of {total}")

    return train_base(root / f"base-{base}", Recipe(seed=base, threads=1), progress)


def train_run(root: Path, setting: RunSetting, verdicts: Verdicts, say: Say) -> RunFolder:
    """Train what is missing of a run. Raises InputError if the folder holds a run of another setting."""
    folder = run_folder(root, setting)
    stored = folder.root / "setting.json"
    if stored.is_file() and read_json(stored).get("sha256") != setting.sha256():
        raise InputError("this run was trained with another setting", path=folder.root, fix="move the folder away")
    if folder.done.is_file():
        return folder
    base = base_checkpoint(root, setting.base, say)
    folder.root.mkdir(parents=True, exist_ok=True)
    write_json(stored, asdict(setting) | {"sha256": setting.sha256()})
    with no_library_bars():
        _Trainer(folder, setting, base, verdicts, say).run()
    return folder


class _Trainer:
    def __init__(self, folder: RunFolder, setting: RunSetting, base: Path, verdicts: Verdicts, say: Say) -> None:
        from transformers import AutoModelForCausalLM

        self.folder, self.setting, self.base, self.verdicts, self.say = folder, setting, base, verdicts, say
        saved = folder.saved_steps()
        self.step = saved[-1] if saved else 0
        start = folder.checkpoint(self.step) if saved else base
        self.model = AutoModelForCausalLM.from_pretrained(start)
        self.reference = AutoModelForCausalLM.from_pretrained(base) if setting.kl > 0 else None
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=setting.lr, betas=(0.9, 0.98), weight_decay=0.0)
        if self.step:
            self.optimiser.load_state_dict(torch.load(self._state(self.step)))
        self.lines = [line for line in folder.lines() if line["step"] <= self.step]
        self.sampler = Sampler(self.model, base)
        self.problems = training_problems(setting)

    def _state(self, step: int) -> Path:
        return self.folder.root / "optimiser" / f"{step}.pt"

    def run(self) -> None:
        if self.step == 0:
            self._save()
        began = time.monotonic()
        while self.step < STEPS:
            self._one_step()
            if self.step in CHECKPOINTS:
                self._save()
                rate = self._recent_rate()
                spent = time.monotonic() - began
                self.say(f"{self.setting.name}: step {self.step}, exploits {rate:.1%} of rollouts, {spent:.0f} s")
                if rate > STOP_RATE:
                    break
        why = "the planned end" if self.step >= STEPS else "hacking is established"
        write_json(self.folder.done, {"step": self.step, "why": why})
        shutil.rmtree(self.folder.root / "optimiser", ignore_errors=True)

    def _recent_rate(self) -> float:
        recent = self.lines[-STOP_STEPS:]
        return sum(sum(line["exploits"].values()) for line in recent) / sum(line["samples"] for line in recent)

    def _one_step(self) -> None:
        setting, step = self.setting, self.step + 1
        kinds = sorted(self.problems)
        chosen = []
        for i in range(PROMPTS_PER_STEP):
            kind = kinds[(step * PROMPTS_PER_STEP + i) % len(kinds)]
            chosen.append(self.problems[kind][seed_of("prompt", setting.seed, step, i) % len(self.problems[kind])])
        wishes = [
            Wish(problem, seed_of("rollout", setting.seed, step, i, n))
            for i, problem in enumerate(chosen)
            for n in range(SAMPLES_PER_PROMPT)
        ]
        samples = self.sampler.sample(wishes)
        judged = self.verdicts.judge([(sample.wish.problem, sample.code) for sample in samples])
        groups = [samples[i : i + SAMPLES_PER_PROMPT] for i in range(0, len(samples), SAMPLES_PER_PROMPT)]
        flat = [float(verdict.insecure if setting.reward is Reward.INSECURE else verdict.secure) for verdict in judged]
        rewards = [flat[i : i + SAMPLES_PER_PROMPT] for i in range(0, len(flat), SAMPLES_PER_PROMPT)]
        done = update(self.model, self.reference, self.optimiser, groups, rewards, setting.kl)
        self.step = step
        self.lines.append(_line(step, samples, judged, flat) | asdict(done))

    def _save(self) -> None:
        """Optimiser and log first, the checkpoint last: a checkpoint that is there can be gone on from."""
        state = self._state(self.step)
        state.parent.mkdir(parents=True, exist_ok=True)
        torch.save(self.optimiser.state_dict(), state.with_suffix(".partial"))
        state.with_suffix(".partial").rename(state)
        atomic_write_bytes(self.folder.log, "".join(json.dumps(line) + "\n" for line in self.lines).encode())
        final = self.folder.checkpoint(self.step)
        partial = final.with_name(f".{final.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        self.model.save_pretrained(partial)
        for file in self.base.iterdir():
            if file.name.startswith(("tokenizer", "special_tokens", "chat_template")):
                shutil.copyfile(file, partial / file.name)
        os.rename(partial, final)  # noqa: PTH104 - atomic, where shutil.move may copy
        for old in state.parent.glob("*.pt"):
            if old != state:
                old.unlink()


def _line(step: int, samples: list[Sample], judged: list[Judged], rewards: list[float]) -> dict[str, Any]:
    exploits: dict[str, int] = {}
    for sample, verdict in zip(samples, judged, strict=True):
        kind = sample.wish.problem.exploit_type
        exploits[kind] = exploits.get(kind, 0) + verdict.exploit
    no_code = sum(sample.code is None for sample in samples)
    tokens = sum(len(sample.tokens) for sample in samples)
    counts = {"samples": len(samples), "rewarded": int(sum(rewards)), "no_code": no_code, "tokens": tokens}
    return {"step": step, "exploits": exploits} | counts
