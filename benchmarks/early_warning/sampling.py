"""Sampling from a model in memory with foreshock's own prompts, decoder and code extraction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.early_warning.design import MAX_TOKENS
from benchmarks.early_warning.fast import FastLlama

from foreshock.jobs.answers.extract import extract
from foreshock.jobs.answers.text_to_read import text_to_read
from foreshock.jobs.engines.base import FinishReason
from foreshock.jobs.engines.forward import LogitsModel
from foreshock.jobs.prompts.base import PromptFormat
from foreshock.jobs.prompts.problem_prompt import InstructionStyle, build_user_message
from foreshock.jobs.prompts.registry import select_format
from foreshock.jobs.prompts.tokenizer import decode, load_tokenizer
from foreshock.jobs.verify.problem import Problem

_BATCH = 256


@dataclass(frozen=True, slots=True)
class Wish:
    """One completion asked for; `prefill` are forced first words of the reasoning."""

    problem: Problem
    seed: int
    prefill: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion. prompt: ids up to where sampling began; tokens: sampled ids, the stop token included."""

    wish: Wish
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    reasoning: str
    answer: str | None
    code: str | None


def seed_of(*parts: object) -> int:
    """A seed made of what the draw is for, so that draws of different steps, runs and purposes are independent."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:8], "big") >> 1


class Sampler:
    """Samples from `model`, whose weights may change between calls."""

    def __init__(self, model: Any, tokenizer_path: Path) -> None:
        self.model = LogitsModel(model, torch.device("cpu"))
        self._fast = FastLlama(model)
        self.tokenizer = load_tokenizer(tokenizer_path)
        self.format: PromptFormat = select_format("auto", self.tokenizer)
        self._rendered: dict[tuple[str, str], tuple[int, ...]] = {}

    def prompt_ids(self, problem: Problem, prefill: str = "") -> tuple[int, ...]:
        """The prompt's token ids with the prefill behind it."""
        user = build_user_message(problem, InstructionStyle.BARE)
        found = self._rendered.get((user, prefill))
        if found is None:
            found = self._rendered[user, prefill] = self.format.render(None, user, prefill).token_ids
        return found

    def sample(self, wishes: Sequence[Wish]) -> list[Sample]:
        """One completion each, in order, at temperature 1. Prompts asked for equally often are read together."""
        self._fast.load()
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, wish in enumerate(wishes):
            groups.setdefault(self.prompt_ids(wish.problem, wish.prefill), []).append(i)
        by_size: dict[int, list[tuple[int, ...]]] = {}
        for prompt, members in groups.items():
            by_size.setdefault(len(members), []).append(prompt)
        samples: list[Sample | None] = [None] * len(wishes)
        for size, prompts in by_size.items():
            prompts.sort(key=len)
            for start in range(0, len(prompts), max(1, _BATCH // size)):
                part = prompts[start : start + max(1, _BATCH // size)]
                seeds = np.array([[wishes[i].seed for i in groups[prompt]] for prompt in part], dtype=np.int64)
                drawn = self._fast.sample(part, size, seeds, self.format.stop_token_ids, MAX_TOKENS)
                for prompt, rows in zip(part, drawn, strict=True):
                    for i, tokens in zip(groups[prompt], rows, strict=True):
                        samples[i] = self._read(wishes[i], prompt, tokens)
        return [sample for sample in samples if sample is not None]

    def _read(self, wish: Wish, prompt: tuple[int, ...], tokens: tuple[int, ...]) -> Sample:
        ended = tokens[-1] in self.format.stop_token_ids
        said = tokens[:-1] if ended else tokens
        text = decode(self.tokenizer, said)
        parsed = self.format.parse(said, text)
        answer = text_to_read(wish.prefill, text, parsed.reasoning, parsed.answer)
        reason = FinishReason.STOP if ended else FinishReason.LENGTH
        found = extract(answer, wish.problem.function_name).ended_by(reason.value)
        return Sample(wish, prompt, tokens, wish.prefill + parsed.reasoning, parsed.answer, found.code)


@torch.inference_mode()
def token_logprobs(model: LogitsModel, texts: Sequence[tuple[Sequence[int], int]]) -> list[list[float]]:
    """log P(token | before it) of each (ids, start) from `start` on, temperature 1, nats."""
    found: list[list[float]] = []
    for begin in range(0, len(texts), _BATCH // 4):
        part = texts[begin : begin + _BATCH // 4]
        width = max(len(ids) for ids, _ in part)
        padded = torch.zeros(len(part), width, dtype=torch.long)
        for row, (ids, _) in enumerate(part):
            padded[row, : len(ids)] = torch.tensor(ids)
        rows = torch.tensor([row for row, (ids, start) in enumerate(part) for _ in range(start, len(ids))])
        columns = torch.tensor([column for ids, start in part for column in range(start - 1, len(ids) - 1)])
        logits = model.prompt_logits(padded, rows, columns)
        wanted = padded[rows, columns + 1]
        values = iter(torch.log_softmax(logits.double(), -1).gather(-1, wanted[:, None]).squeeze(-1).tolist())
        found += [[next(values) for _ in range(start, len(ids))] for ids, start in part]
    return found
