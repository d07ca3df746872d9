"""Facts on file that prove scores and attempts to be of different prefixes, or a score to be another number's.

None of these is a guess: each compares two records of one thing. What files leave out is not checked, and the
statistical detector (headline/signs.py) sees the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshock.analysis.tables.join import look_up

Floats = npt.NDArray[np.float64]

KEY = ["checkpoint", "prefill_level", "task", "attempt_idx"]
FACTS = ("log_p", "mean", "tokens", "outcome", "sha", "temperature")
"""Columns of `score_facts` beside KEY, NaN where a file does not say."""
_TOLERATED = 0.005


def score_facts(frame: pd.DataFrame, task: npt.NDArray[Any], sha: npt.NDArray[Any]) -> pd.DataFrame:
    """What a logprob table says of each score: KEY and FACTS as numbers. sha: a code of each row's digest, below 0
    where there is none."""
    found = pd.DataFrame({name: frame[name].to_numpy() for name in ("checkpoint", "prefill_level", "attempt_idx")})
    columns = {
        "log_p": "prefill_logprob_sum", "mean": "prefill_logprob_mean", "tokens": "prefill_num_tokens",
        "outcome": "exploit_success", "temperature": "logprob_temperature",
    }  # fmt: skip
    for name, column in columns.items():
        found[name] = _numbers(frame[column]) if column in frame else np.nan
    return found.assign(task=task, sha=np.where(sha >= 0, sha, np.nan).astype(np.float64))


def _numbers(column: pd.Series[Any]) -> Floats:
    return np.asarray(pd.to_numeric(column, errors="coerce").astype("Float64").to_numpy(np.float64, na_value=np.nan))


def pairing_faults(run: str, rows: pd.DataFrame, scores: pd.DataFrame, donor: pd.DataFrame | None) -> list[str]:
    """What is wrong with a run's scores, a sentence each.

    rows: attempts, with KEY, `success` and `sha` (NaN: not said); scores, donor: `score_facts` of the run and of the
    donor's own run.
    """
    faults = [*_sums(scores), *_tokens(scores, donor), *_temperatures(scores, donor)]
    alone = rows[(rows["prefill_level"] > 0) & ~rows.duplicated(KEY, keep=False)]
    faults += _records(alone, scores)
    return [f"{run}: {fault}" for fault in faults]


def kl_faults(run: str, kl: pd.DataFrame, scores: pd.DataFrame, log_q: pd.DataFrame) -> list[str]:
    """KL rows repeat log P and log Q of the prefixes that the scores are of: a sentence for each number that differs.

    kl: KEY, log_p, log_q and log_w as it has them; scores: KEY and log_p; log_q: KEY but for the checkpoint, and log_q.
    Two passes of one model differ by rounding, so that 1% of log P and half a nat pass, and so does one row in twenty.
    """
    pairs = (
        ("eval_logprob_sum", "log_p", look_up(kl, scores, KEY, "log_p"), "the scores' prefill_logprob_sum"),
        ("ref_logprob_sum", "log_q", look_up(kl, log_q, KEY[1:], "log_q"), "the donor's prefill_logprob_sum"),
        ("kl_divergence", "log_w", (kl["log_p"] - kl["log_q"]).to_numpy(), "ref_logprob_sum less eval_logprob_sum"),
    )
    size = np.abs(kl["log_p"].to_numpy(dtype=np.float64))
    faults = []
    for column, name, other, what in pairs:
        mine = kl[name].to_numpy(dtype=np.float64)
        known = np.isfinite(mine) & np.isfinite(other)
        off = np.abs(mine - other) > 0.5 + 0.01 * np.where(np.isfinite(size), size, 0.0)
        share = float(off[known].mean()) if known.any() else 0.0
        if share > 0.05:
            faults.append(
                f"{run}: {column} of the KL rows differs from {what} of the same prefix in {share:.0%} of cases"
            )
    return faults


def _share(wrong: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]) -> float:
    """Share of the comparisons that fail, 0 unless more than the tolerated one does."""
    share = float(wrong[known].mean()) if known.any() else 0.0
    return share if share > _TOLERATED else 0.0


def _sums(scores: pd.DataFrame) -> list[str]:
    """A sum is its mean times its tokens, up to the rounding of a mean and one token that is counted or not."""
    total, mean, n = (scores[name].to_numpy() for name in ("log_p", "mean", "tokens"))
    known = np.isfinite(total) & np.isfinite(mean) & np.isfinite(n) & (n > 0)
    off = np.abs(total - mean * n) > 6e-4 * n + 0.02
    off &= np.abs(total - mean * (n - 1)) > 6e-4 * n + 0.02
    share = _share(off, known)
    if not share:
        return []
    return [f"prefill_logprob_sum is not prefill_logprob_mean times prefill_num_tokens in {share:.0%} of the scores"]


def _tokens(scores: pd.DataFrame, donor: pd.DataFrame | None) -> list[str]:
    """A prefix has one number of tokens, at every checkpoint and under the donor, and no more than a longer one."""
    faults = []
    prefix = ["prefill_level", "task", "attempt_idx"]
    said = scores[np.isfinite(scores["tokens"].to_numpy())]
    if len(said):
        first = said.groupby(prefix)["tokens"].transform("first").to_numpy()
        repeated = said.duplicated(prefix).to_numpy()
        share = _share(said["tokens"].to_numpy() != first, repeated)
        if share:
            faults.append(f"the same prefix has another number of tokens at another checkpoint in {share:.0%} of cases")
        one = said[~repeated].sort_values(["task", "attempt_idx", "prefill_level"])
        same = (one[["task", "attempt_idx"]].diff().abs().sum(axis=1) == 0).to_numpy()
        share = _share((one["tokens"].diff() < 0).to_numpy(), same)
        if share:
            faults.append(f"a longer prefix has fewer tokens than its own beginning in {share:.0%} of cases")
    if donor is None or donor.empty or not len(said):
        return faults
    theirs = look_up(said, donor, prefix, "tokens")
    known = np.isfinite(theirs)
    share = _share(said["tokens"].to_numpy() != theirs, known)
    if 0 < share < 0.5:  # above that the donor has another tokenizer
        faults.append(f"the donor's score of the same prefix has another number of tokens in {share:.0%} of cases")
    return faults


def _temperatures(scores: pd.DataFrame, donor: pd.DataFrame | None) -> list[str]:
    seen = set(np.round(scores["temperature"].dropna().unique(), 6).tolist())
    if donor is not None and not donor.empty and len(seen) == 1:
        seen |= set(np.round(donor["temperature"].dropna().unique(), 6).tolist())
    if len(seen) < 2:
        return []
    return ["scores were made at different temperatures: " + ", ".join(f"{value:g}" for value in sorted(seen))]


def _records(rows: pd.DataFrame, scores: pd.DataFrame) -> list[str]:
    """A score repeats its attempt's outcome and digest; both must be the attempt's own.

    Some tools write the source trace's outcome there, which is one and the same in all rows: that says nothing.
    """
    faults = []
    told = scores[~scores.duplicated(KEY, keep=False)]
    own, mine = look_up(rows, told, KEY, "outcome"), rows["success"].to_numpy(dtype=np.float64)
    known = np.isfinite(own)
    varies = known.any() and bool(np.ptp(own[known]) > 0)
    share = _share(own != mine, known & varies)
    if share:
        faults.append(f"scores repeat another outcome than their attempt's in {share:.1%} of cases")
    own, mine = look_up(rows, told, KEY, "sha"), rows["sha"].to_numpy(dtype=np.float64)
    share = _share(own != mine, np.isfinite(own) & np.isfinite(mine))
    if share:
        faults.append(f"scores are of another text (prefill_sha256) than their attempt's in {share:.1%} of cases")
    return faults
