"""Two records of one thing that differ are said; records that say nothing are not taken for faults."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from foreshock.analysis.evidence.pairing import KEY, kl_faults, pairing_faults, score_facts

LEVELS, TASKS, CHECKPOINTS = (5, 20, 60), 12, (10, 20)


def a_run(seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Attempts and their scores, one attempt a task."""
    rng = np.random.default_rng(seed)
    places = [(c, level, task, 0) for c in CHECKPOINTS for level in LEVELS for task in range(TASKS)]
    table = pd.DataFrame(places, columns=["checkpoint", "prefill_level", "task", "attempt_idx"])
    tokens = (table["prefill_level"] * 2 + table["task"]).to_numpy()
    total = -2.0 * tokens + rng.normal(size=len(table))
    success = rng.random(len(table)) < 0.4
    sha = (table["prefill_level"] * 100 + table["task"]).to_numpy()
    rows = table.assign(success=success.astype(int), sha=sha.astype(float))
    scores = table.assign(
        prefill_logprob_sum=total, prefill_logprob_mean=np.round(total / tokens, 3), prefill_num_tokens=tokens,
        exploit_success=success, logprob_temperature=1.0, code=sha,
    )  # fmt: skip
    return rows, scores


def said(rows: pd.DataFrame, scores: pd.DataFrame, donor: pd.DataFrame | None = None) -> str:
    def facts(table: pd.DataFrame) -> pd.DataFrame:
        return score_facts(table, table["task"].to_numpy(), table["code"].to_numpy())

    return "; ".join(pairing_faults("run", rows, facts(scores), None if donor is None else facts(donor)))


def shuffled(scores: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    order = np.random.default_rng(1).permutation(TASKS)
    out = scores.copy()
    for name in columns:
        out[name] = scores.groupby(["checkpoint", "prefill_level"])[name].transform(lambda part: part.to_numpy()[order])
    return out


def test_sound_records_and_those_that_say_nothing_are_no_faults() -> None:
    rows, scores = a_run()
    assert said(rows, scores, scores) == ""
    silent = scores.assign(prefill_logprob_mean=np.nan, prefill_num_tokens=pd.NA, exploit_success=pd.NA, code=-1)
    assert said(rows, silent.drop(columns="logprob_temperature"), scores) == ""
    assert said(rows, scores.assign(exploit_success=True)) == ""  # the source's outcome, not the attempt's


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.assign(prefill_logprob_sum=0.6 * s["prefill_logprob_sum"]), "is not prefill_logprob_mean times"),
        (lambda s: shuffled(s, ["prefill_logprob_sum"]), "is not prefill_logprob_mean times"),
        (lambda s: shuffled(s, ["exploit_success"]), "repeat another outcome"),
        (lambda s: shuffled(s, ["code"]), "are of another text"),
        (lambda s: s.assign(prefill_num_tokens=s["prefill_num_tokens"] + (s["checkpoint"] > 10)), "another checkpoint"),
        (lambda s: s.assign(logprob_temperature=np.where(s["checkpoint"] > 10, 0.7, 1.0)), "temperatures: 0.7, 1"),
    ],
)
def test_records_that_contradict_each_other_are_said(change: object, words: str) -> None:
    rows, scores = a_run()
    assert words in said(rows, change(scores))  # type: ignore[operator]  # a function


def test_a_donor_scored_on_other_rows_is_said_and_another_tokenizer_is_not() -> None:
    rows, scores = a_run()
    mixed = scores.copy()
    mixed.loc[mixed["task"] < 3, "prefill_num_tokens"] += 2
    assert "the donor's score" in said(rows, scores, mixed)
    assert said(rows, scores, scores.assign(prefill_num_tokens=scores["prefill_num_tokens"] + 2)) == ""


def kl_rows(scores: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """KL rows of the scores, and the donor's log Q."""
    log_p = scores["prefill_logprob_sum"]
    log_q = log_p + np.random.default_rng(2).normal(0, 3, len(scores))
    kl = scores[KEY].assign(log_p=log_p, log_q=log_q, log_w=log_p - log_q)
    return kl, kl[[*KEY[1:], "log_q"]]


def test_kl_rows_of_the_same_numbers_are_no_fault_and_those_without_any_neither() -> None:
    rng = np.random.default_rng(3)
    scores = a_run()[1]
    scores = scores[scores["checkpoint"] == CHECKPOINTS[0]]
    kl, log_q = kl_rows(scores)
    plain = scores[KEY].assign(log_p=scores["prefill_logprob_sum"])
    assert kl_faults("run", kl, plain, log_q) == []
    rounded = plain.assign(log_p=plain["log_p"] + rng.normal(0, 0.1, len(plain)))
    assert kl_faults("run", kl, rounded, log_q) == []
    assert kl_faults("run", kl.assign(log_q=np.nan), plain, log_q.iloc[:0]) == []


@pytest.mark.parametrize(
    ("column", "words"),
    [("log_p", "eval_logprob_sum"), ("log_q", "ref_logprob_sum"), ("log_w", "kl_divergence")],
)
def test_kl_rows_that_contradict_the_scores_or_themselves_are_said(column: str, words: str) -> None:
    scores = a_run()[1]
    scores = scores[scores["checkpoint"] == CHECKPOINTS[0]]
    kl, log_q = kl_rows(scores)
    plain = scores[KEY].assign(log_p=scores["prefill_logprob_sum"])
    faults = kl_faults("run", kl.assign(**{column: 0.6 * kl[column] - 2}), plain, log_q)
    assert any(fault.startswith(f"run: {words} of the KL rows differs") for fault in faults)
