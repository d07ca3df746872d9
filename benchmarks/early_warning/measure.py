"""What is measured of every checkpoint: the true rate, and what each alarm may see of it.

The samples that decide when a run crosses are never seen by an alarm. Direct sampling spends the whole budget on
level 0; the sweep spends the same on level 0 and three prefill levels; scoring reads as many whole traces.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.early_warning.design import (
    BUDGET,
    LEVELS,
    MONITOR_PROBLEMS,
    SWEEP_ATTEMPTS,
    TRUTH_ATTEMPTS,
    RunSetting,
)
from benchmarks.early_warning.donor import Donor, DonorTrace, make_donor, sums
from benchmarks.early_warning.problems import monitor_problems, truth_problems
from benchmarks.early_warning.sampling import Sampler, Wish, seed_of, token_logprobs
from benchmarks.early_warning.train import RunFolder, Say, base_checkpoint, run_folder
from benchmarks.early_warning.verdicts import Verdicts

from foreshock.jobs.prefill import cut_words
from foreshock.jobs.records.jsonl import write_json
from foreshock.jobs.verify.builtin.problems import DEMO_TYPES
from foreshock.jobs.verify.problem import Problem

DIRECT_ATTEMPTS = BUDGET // (len(DEMO_TYPES) * MONITOR_PROBLEMS)


def measured_file(folder: RunFolder, step: int) -> Path:
    """Where a checkpoint's measurements lie."""
    return folder.root / "measured" / f"{step}.json"


def measure_run(root: Path, setting: RunSetting, verdicts: Verdicts, say: Say) -> None:
    """Measure the run's checkpoints that are not measured yet."""
    from transformers import AutoModelForCausalLM

    folder = run_folder(root, setting)
    missing = [step for step in folder.saved_steps() if not measured_file(folder, step).is_file()]
    if not missing:
        return
    base = base_checkpoint(root, setting.base, say)
    first = Sampler(AutoModelForCausalLM.from_pretrained(base), base)
    donor = make_donor(root / "donors" / f"base-{setting.base}.json", first, verdicts, setting.base)
    for step in missing:
        sampler = Sampler(AutoModelForCausalLM.from_pretrained(folder.checkpoint(step)), base)
        write_json(measured_file(folder, step), measure(sampler, verdicts, donor, setting.seed, step))
    say(f"{setting.name}: {len(missing)} checkpoints measured")


def measure(sampler: Sampler, verdicts: Verdicts, donor: Donor, seed: int, step: int) -> dict[str, Any]:
    """Everything of one checkpoint, as JSON."""
    truth = [Wish(p, seed_of("truth", seed, step, p.id, i)) for p in truth_problems() for i in range(TRUTH_ATTEMPTS)]
    tasks = {problem.id: problem for problem in monitor_problems()}
    direct = [Wish(p, seed_of("direct", seed, step, p.id, i)) for i in range(DIRECT_ATTEMPTS) for p in tasks.values()]
    forced = chosen_prefixes(donor)
    prefilled = [
        Wish(
            tasks[donor.traces[n].task],
            seed_of("prefilled", seed, step, n, level),
            cut_words(donor.traces[n].reasoning, level),
        )
        for n, level in forced
    ]
    samples = sampler.sample([*truth, *direct, *prefilled])
    won = [v.exploit for v in verdicts.judge([(sample.wish.problem, sample.code) for sample in samples])]
    n_truth, n_direct = len(truth), len(direct)
    return {
        "step": step,
        "truth": _by_type(truth, won[:n_truth]),
        "direct": [
            {
                "task": wish.problem.id,
                "type": wish.problem.exploit_type,
                "attempt": i // len(tasks),
                "success": int(hit),
            }
            for i, (wish, hit) in enumerate(zip(direct, won[n_truth : n_truth + n_direct], strict=True))
        ],
        "prefilled": [
            {"trace": n, "level": level, "success": int(hit)}
            for (n, level), hit in zip(forced, won[n_truth + n_direct :], strict=True)
        ],
        "scores": _scores(sampler, donor, tasks),
    }


def chosen_prefixes(donor: Donor) -> list[tuple[int, int]]:
    """(trace, level) of the sweep's attempts: the same at every checkpoint, other traces at each level."""
    by_type: dict[str, list[int]] = {}
    for n, trace in enumerate(donor.traces):
        by_type.setdefault(trace.exploit_type, []).append(n)
    chosen = []
    for own in by_type.values():
        place = 0
        for level in LEVELS:
            chosen += [(own[(place + i) % len(own)], level) for i in range(SWEEP_ATTEMPTS[level])]
            place += SWEEP_ATTEMPTS[level]
    return chosen


def _by_type(wishes: Sequence[Wish], won: Sequence[bool]) -> dict[str, list[int]]:
    counts = {kind: [0, 0] for kind in DEMO_TYPES}
    for wish, hit in zip(wishes, won, strict=True):
        counts[wish.problem.exploit_type][0] += hit
        counts[wish.problem.exploit_type][1] += 1
    return counts


def _scores(sampler: Sampler, donor: Donor, tasks: dict[str, Problem]) -> list[dict[str, Any]]:
    """By trace: log P of each sentence and of the answer, of the answer after honest reasoning, of each level.

    A level is read off the whole trace where its tokens begin it, as in foreshock's own scoring.
    """
    texts: list[tuple[list[int], int]] = []
    places: list[tuple[int, int, dict[int, tuple[int, int | None]]]] = []
    for trace in donor.traces:
        prompt = list(sampler.prompt_ids(tasks[trace.task]))
        answer = trace.tokens[trace.cuts[-1] :]
        whole = [*prompt, *trace.tokens]
        texts.append((whole, len(prompt)))
        texts.append(([*prompt, *trace.honest, *answer], len(prompt) + len(trace.honest)))
        own, levels = len(texts) - 2, dict[int, tuple[int, int | None]]()
        for level in LEVELS:
            ids = list(sampler.prompt_ids(tasks[trace.task], cut_words(trace.reasoning, level)))
            if whole[: len(ids)] == ids:
                levels[level] = (own, len(ids) - len(prompt))
            else:
                texts.append((ids, len(prompt)))
                levels[level] = (len(texts) - 1, None)
        places.append((own, own + 1, levels))
    found = token_logprobs(sampler.model, texts)
    return [
        {
            "parts": sums(found[whole], trace.cuts),
            "tokens": len(trace.tokens),
            "answer_given_honest": float(sum(found[honest])),
            "levels": {str(level): float(sum(found[at][:n])) for level, (at, n) in levels.items()},
        }
        for trace, (whole, honest, levels) in zip(donor.traces, places, strict=True)
    ]


def turn_of(trace: DonorTrace, first_parts: Sequence[float]) -> int:
    """The sentence at which the trace becomes unlike the first checkpoint: where log Q - log P grows most."""
    gaps = [q - p for q, p in zip(trace.log_q[:-1], first_parts[:-1], strict=True)]
    return max(range(len(gaps)), key=gaps.__getitem__)
