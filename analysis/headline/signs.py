"""Signs that the weights do not belong to the outcomes: one row of numbers a sweep, for the learned detector.

A temperature mistake scales log weights, a wrong join gives a prefix another's weight, a wrong tokenisation adds noise.
Each breaks something that right weights keep: levels of a cell agree on one rate, weights average to one, the weight of
a trace changes slowly over checkpoints and levels, prefilled and direct attempts agree where both exploit.
"""

from __future__ import annotations

import numpy as np

from foreshock.analysis.evidence.evidence import DonorKind, Evidence, Floats, Ints, PrefillRows, type_index
from foreshock.analysis.headline.features import _slot_level
from foreshock.analysis.headline.missing import nan_is_missing
from foreshock.analysis.headline.prefixes import LevelTable

_DECADE = float(np.log(10.0))


def signs(evidence: Evidence, table: LevelTable, n: Floats, k: Floats) -> tuple[Floats, tuple[str, ...]]:
    """The numbers [F] and their names. n, k: [J, C] effective direct counts."""
    found: dict[str, float] = {}
    rows = evidence.rows.take(np.isfinite(evidence.rows.log_w))
    with nan_is_missing():
        _roughness(found, rows)
        _means(found, evidence, table)
        _levels_agree(found, evidence, table)
        _direct_agrees(found, evidence, table, n, k)
        _outcomes(found, evidence, rows, table)
        _scale(found, evidence, rows, table)
        _step_outcomes(found, evidence, rows)
    found["unconditioned"] = float(evidence.donor is DonorKind.UNCONDITIONED)
    found["uncorrected"] = float(evidence.donor is DonorKind.CONDITIONED_UNCORRECTED)
    found["surfaces"], found["checkpoints"] = float(evidence.n.shape[0]), float(evidence.n.shape[1])
    found["rows"] = float(np.log10(len(rows) + 1))
    return np.array(list(found.values())), tuple(found)


def _median(value: Floats) -> float:
    value = value[np.isfinite(value)]
    return float(np.median(value)) if len(value) else np.nan


def _joined(*parts: Ints) -> Ints:
    """A code for each combination of codes that are 0 or more, in their order; any number of checkpoints has room."""
    code = parts[0]
    for part in parts[1:]:
        code = code * (int(part.max(initial=0)) + 1) + part
    return code


def _ratio(value: float, unit: float) -> float:
    """NaN where cells hold one trace each, so that nothing says how traces differ."""
    return value / unit if unit else np.nan


def _differences(order: Ints, group: Ints, value: Floats) -> tuple[Floats, Floats, Ints]:
    """First differences of neighbours in `order` that share a group, second differences, and where the first are."""
    g, v = group[order], value[order]
    first = np.diff(v)
    same = g[1:] == g[:-1]
    second = first[1:] - first[:-1]
    both = same[1:] & same[:-1]
    return first[same], second[both], np.flatnonzero(same)


def _roughness(found: dict[str, float], rows: PrefillRows) -> None:
    """How fast a trace's log weight changes over checkpoints and levels, against how traces differ in a cell."""
    cell = _joined(rows.surface, rows.checkpoint, rows.level)
    _, cell = np.unique(cell, return_inverse=True)
    count = np.maximum(np.bincount(cell), 1)
    centred = rows.log_w - (np.bincount(cell, rows.log_w) / count)[cell]
    trace = np.unique(_joined(rows.trace, rows.surface), return_inverse=True)[1] if len(rows) else rows.trace
    line = _joined(trace, rows.level)
    first, second, _ = _differences(np.lexsort((rows.checkpoint, line)), line, centred)
    typical = _median(np.abs(centred))
    found["time_change"] = float(np.log10(_ratio(_median(np.abs(first)), typical) + 1e-3))
    found["time_roughness"] = float(np.log10(_ratio(_median(np.abs(second)), typical) + 1e-3))
    found["time_roughness_nats"] = float(np.log10(_median(np.abs(second)) + 1e-3))
    line = _joined(trace, rows.checkpoint)
    order = np.lexsort((rows.level, line))
    first, second, _ = _differences(order, line, centred)
    found["level_change"] = float(np.log10(_ratio(_median(np.abs(first)), typical) + 1e-3))
    found["level_roughness"] = float(np.log10(_ratio(_median(np.abs(second)), typical) + 1e-3))
    g, v = line[order], centred[order]
    same = g[1:] == g[:-1]
    a, b = v[:-1][same], v[1:][same]
    found["level_correlation"] = float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))
    found["change_correlation"] = float((a * (b - a)).sum() / np.sqrt((a**2).sum() * ((b - a) ** 2).sum()))
    g3 = (g[2:] == g[1:-1]) & (g[1:-1] == g[:-2])
    d1, d2 = (v[1:-1] - v[:-2])[g3], (v[2:] - v[1:-1])[g3]
    found["steps_correlation"] = float((d1 * d2).sum() / np.sqrt((d1**2).sum() * (d2**2).sum()))
    found["typical_nats"] = float(np.log10(typical + 1e-3))


def _means(found: dict[str, float], evidence: Evidence, table: LevelTable) -> None:
    """Weights average to one, and mean and variance of the log weights keep to each other."""
    for slot, level in enumerate(_slot_level(evidence.levels)):
        mean_weight = table.log_mean_weight[:, :, level] if level >= 0 else np.full(1, np.nan)
        mean = table.mean_all[:, :, level] if level >= 0 else np.full(1, np.nan)
        var = table.var_all[:, :, level] if level >= 0 else np.full(1, np.nan)
        found[f"mean_weight{slot}"] = _median(mean_weight)
        known = mean_weight[np.isfinite(mean_weight)]
        found[f"mean_weight_high{slot}"] = float(np.quantile(known, 0.9)) if len(known) else np.nan
        found[f"mean_weight_low{slot}"] = float(np.quantile(known, 0.1)) if len(known) else np.nan
        found[f"mean_to_variance{slot}"] = float(-2 * np.nansum(mean) / np.nansum(var)) if len(known) else np.nan
        found[f"variance{slot}"] = float(np.log10(_median(var) + 1e-3))


_POWERS = np.linspace(0.3, 2.6, 24)
_MOST_STEPS = 5000


def _unit_power(value: Floats) -> float:
    """The power t > 0 at which the mean of exp(t value) is 1; NaN for too few values. Sound log weights have t = 1:
    they average to one after every word. Log weights scaled by s have 1/s."""
    value = value[np.isfinite(value)]
    if len(value) < 40:
        return np.nan
    value = np.clip(value[:: max(len(value) // _MOST_STEPS, 1)], -40, 20)
    growth = np.log(np.exp(_POWERS[:, None] * value).mean(1)) / _POWERS
    return float(np.interp(0.0, np.maximum.accumulate(growth), _POWERS))


def _scale(found: dict[str, float], evidence: Evidence, rows: PrefillRows, table: LevelTable) -> None:
    """Are log weights on their own scale? Steps from level to level average to a weight of one, and where variance
    grows from checkpoint to checkpoint the mean falls by half of it."""
    slots = _slot_level(evidence.levels)
    shape = evidence.n.shape
    line = (rows.trace * shape[0] + rows.surface) * shape[1] + rows.checkpoint
    order = np.lexsort((rows.level, line))
    line, level, log_w = line[order], rows.level[order], rows.log_w[order]
    before = np.zeros(len(line))
    linked = np.zeros(len(line), dtype=bool)
    linked[1:] = line[1:] == line[:-1]
    before[1:] = np.where(linked[1:], log_w[:-1], 0.0)
    first = np.ones(len(line), dtype=bool)
    first[1:] = line[1:] != line[:-1]
    step = np.where(linked | first, log_w - before, np.nan)
    cell = np.ravel_multi_index((rows.surface[order], rows.checkpoint[order], level), shape) if len(line) else level
    size = int(np.prod(shape))
    count = np.maximum(np.bincount(cell, minlength=size), 1)
    mean = np.bincount(cell, step, size) / count
    spread = np.bincount(cell, (step - mean[cell]) ** 2, size) / count
    kind = type_index(evidence)
    for slot, chosen in enumerate(slots):
        mine = level == chosen
        found[f"unit_power{slot}"] = _unit_power(step[mine])
        own = spread[cell[mine]]
        calm = own <= (np.quantile(own, 0.33) if len(own) else 0.0)
        found[f"unit_power_calm{slot}"] = _unit_power(step[mine][calm])
        found[f"step_variance{slot}"] = float(np.log10(np.median(own) + 1e-3)) if len(own) else np.nan
        x = table.var_all[:, :, chosen] if chosen >= 0 else np.full(shape[:2], np.nan)
        for name, grid in (("mean", table.mean_all), ("mean_weight", table.log_mean_weight)):
            y = grid[:, :, chosen] if chosen >= 0 else np.full(shape[:2], np.nan)
            found[f"{name}_per_variance{slot}"] = _slope_within(x, y, kind)
    z = np.unique(_joined(rows.trace, kind[rows.surface]), return_inverse=True)[1] if len(rows) else rows.trace
    for slot, chosen in enumerate(slots):
        mine = rows.level == chosen
        found[f"hit_z{slot}"] = _association(rows.take(mine), z[mine], kind)


def _step_outcomes(found: dict[str, float], evidence: Evidence, rows: PrefillRows) -> None:
    """From one level to the next, E[w'/w r' | z] = r(z): exploits after the longer prefixes, each times its step's
    weight, are as many as after the shorter ones. Needs no mean weight: what donors never write cancels. Scaled
    weights balance at another power; another prefix's do not undo the rise in exploits that the words bring."""
    shape = evidence.n.shape
    line = (rows.trace * shape[0] + rows.surface) * shape[1] + rows.checkpoint
    order = np.lexsort((rows.level, line))
    line, level, log_w, hit = line[order], rows.level[order], rows.log_w[order], rows.success[order].astype(np.float64)
    cell = np.ravel_multi_index((rows.surface[order], rows.checkpoint[order]), shape[:2]) if len(line) else line
    pair = np.flatnonzero((line[1:] == line[:-1]) & (level[1:] != level[:-1]))
    step, before, after = np.clip(log_w[pair + 1] - log_w[pair], -20, 8), hit[pair], hit[pair + 1]
    level, cell = level[pair + 1], cell[pair]
    size = int(np.prod(shape[:2])) * shape[2]
    group = cell * shape[2] + level
    count = np.maximum(np.bincount(group, minlength=size), 1)
    mean = np.bincount(group, step, size) / count
    spread = (np.bincount(group, (step - mean[group]) ** 2, size) / count)[group]
    for slot, chosen in enumerate((*_slot_level(evidence.levels), -1)):
        mine = level == chosen if chosen >= 0 else np.full(len(level), slot == len(_slot_level(evidence.levels)))
        name = str(slot) if slot < len(_slot_level(evidence.levels)) else ""
        _balance(found, name, step[mine], before[mine], after[mine])
        if not name:
            calm = mine & (spread < 1.0)
            _balance(found, "_calm", step[calm], before[calm], after[calm])
            for text, part in (("low", cell % shape[1] < shape[1] / 2), ("late", cell % shape[1] >= shape[1] / 2)):
                _balance(found, f"_{text}", step[part], before[part], after[part])


def _balance(found: dict[str, float], name: str, step: Floats, before: Floats, after: Floats) -> None:
    """How far the balance is off at power 1, in nats and in standard errors, and the power at which it holds."""
    a, b = float((np.exp(step) * after).sum()), float(before.sum())
    enough = b >= 5 and after.sum() >= 5
    difference = np.exp(step) * after - before
    found[f"balance{name}"] = float(np.log(a / b)) if enough else np.nan
    found[f"balance_z{name}"] = float(difference.sum() / np.sqrt((difference**2).sum() + 1e-9)) if enough else np.nan
    found[f"balance_rise{name}"] = float(np.log(after.sum() / b)) if enough else np.nan
    if not enough:
        found[f"balance_power{name}"] = np.nan
        return
    hit = step[after > 0]
    hit = hit[:: max(len(hit) // _MOST_STEPS, 1)]
    growth = np.log(np.exp(_POWERS[:, None] * hit).mean(1) * after.sum() / b)
    lowest = int(growth.argmin())
    found[f"balance_power{name}"] = float(np.interp(0.0, -growth[: lowest + 1], _POWERS[: lowest + 1]))


def _slope_within(x: Floats, y: Floats, kind: Ints) -> float:
    """-2 times the slope of y on x over runs and checkpoints of a type: 1 where means fall by half the variance."""
    top, bottom = 0.0, 0.0
    for t in range(int(kind.max()) + 1):
        a, b = x[kind == t], y[kind == t]
        known = np.isfinite(a) & np.isfinite(b) & (a < 12)
        if known.sum() >= 3:
            centred = a[known] - a[known].mean()
            top += float((centred * (b[known] - b[known].mean())).sum())
            bottom += float((centred**2).sum())
    return -2 * top / bottom if bottom > 1e-3 else np.nan


def _association(rows: PrefillRows, trace: Ints, kind: Ints) -> float:
    """Standardised association over traces of how often a prefix exploits with its log weight, cells' means removed."""
    if len(rows) < 20:
        return np.nan
    cell = np.unique(_joined(rows.surface, rows.checkpoint), return_inverse=True)[1]
    count = np.bincount(cell)
    y = rows.success - (np.bincount(cell, rows.success) / count)[cell]
    x = np.clip(rows.log_w, -40, 40)
    x = x - (np.bincount(cell, x) / count)[cell]
    size = int(trace.max()) + 1
    a, b = np.bincount(trace, y, size), np.bincount(trace, x, size)
    used = np.bincount(trace, minlength=size) > 0
    a, b = a[used], b[used]
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum() + 1e-9) * np.sqrt(len(a)))


def _levels_agree(found: dict[str, float], evidence: Evidence, table: LevelTable) -> None:
    """log rate_N and what weights add to it must cancel over a cell's levels: another slope if weights are scaled."""
    use = table.s >= 4
    rate = np.where(use, np.log(table.s / table.n), np.nan)
    for name, grid in (
        ("raw", table.raw),
        ("log_normal", table.log_normal - np.log(table.rate) + np.log(table.s / table.n)),
    ):
        lift = np.where(use, grid, np.nan) - rate
        weight = np.where(use & np.isfinite(lift), np.minimum(table.s, 30.0), 0.0)
        enough = (weight > 0).sum(-1) >= 2
        weight = weight * enough[..., None]
        total = np.maximum(weight.sum(-1, keepdims=True), 1e-9)
        x = np.where(weight > 0, lift - (np.nan_to_num(lift) * weight).sum(-1, keepdims=True) / total, 0.0)
        y = np.where(weight > 0, rate - (np.nan_to_num(rate) * weight).sum(-1, keepdims=True) / total, 0.0)
        xx, xy, yy = ((weight * a * b).sum() for a, b in ((x, x), (x, y), (y, y)))
        found[f"levels_{name}_slope"] = float(-xy / (xx + 1e-3)) if weight.sum() > 30 else np.nan
        found[f"levels_{name}_inverse"] = float(-xy / (yy + 1e-3)) if weight.sum() > 30 else np.nan
        found[f"levels_{name}_spread"] = float(
            np.log10(np.sqrt((weight * (x + y) ** 2).sum() / max(weight.sum(), 1)) + 1e-3)
        )
    found["levels_weight"] = float(np.log10(np.where(use, table.s, 0).sum() + 1))


def _direct_agrees(found: dict[str, float], evidence: Evidence, table: LevelTable, n: Floats, k: Floats) -> None:
    """Where level 0 exploits too: what weights must add against what they add, overall and by depth."""
    direct = np.where(k >= 2, np.log(np.maximum(k, 1e-9) / np.maximum(n, 1e-9)), np.nan)[..., None]
    use = (table.s >= 3) & np.isfinite(direct)
    rate = np.where(use, np.log(table.s / table.n), np.nan)
    lift, wanted = table.raw - rate, direct - rate
    weight = np.where(use & np.isfinite(lift), np.minimum(k, 20.0)[..., None], 0.0)
    total = weight.sum()
    found["direct_weight"] = float(np.log10(total + 1))
    x, y = np.nan_to_num(lift) * (weight > 0), np.nan_to_num(wanted) * (weight > 0)
    found["direct_slope"] = float((weight * x * y).sum() / ((weight * x * x).sum() + 1e-3)) if total > 10 else np.nan
    mx, my = (weight * x).sum() / max(total, 1e-9), (weight * y).sum() / max(total, 1e-9)
    found["direct_offset"] = float(my - mx) if total > 10 else np.nan
    xx, xy = (weight * (x - mx) ** 2).sum(), (weight * (x - mx) * (y - my)).sum()
    found["direct_centred_slope"] = float(xy / (xx + 1e-3)) if total > 10 else np.nan
    for slot, level in enumerate(_slot_level(evidence.levels)):
        w = weight[:, :, level] if level >= 0 else np.zeros(1)
        gap = (y - x)[:, :, level] if level >= 0 else np.zeros(1)
        found[f"direct_offset{slot}"] = float((w * gap).sum() / w.sum()) if w.sum() > 5 else np.nan


def _outcomes(found: dict[str, float], evidence: Evidence, rows: PrefillRows, table: LevelTable) -> None:
    """Exploits and weights of the same prefix are related; of another's they are not."""
    for slot, level in enumerate(_slot_level(evidence.levels)):
        gap = (table.mean - table.mean_all)[:, :, level] if level >= 0 else np.full(1, np.nan)
        sd = np.sqrt(table.var_all[:, :, level] + 0.01) if level >= 0 else np.ones(1)
        hits = table.s[:, :, level] if level >= 0 else np.zeros(1)
        use = np.isfinite(gap) & (hits >= 2)
        found[f"hit_shift{slot}"] = float((hits * gap / sd)[use].sum() / hits[use].sum()) if use.any() else np.nan
    found["gamma"] = _median(table.gamma)
    # Double-centred over (trace, level) and cell: does a prefix exploit more where its own weight is higher?
    if not len(rows):
        found["outcome_slope"] = np.nan
        return
    cell = np.unique(_joined(rows.surface, rows.checkpoint, rows.level), return_inverse=True)[1]
    line = np.unique(_joined(rows.trace, rows.level), return_inverse=True)[1]
    y, x = rows.success.astype(np.float64), np.clip(rows.log_w, -30, 30)
    for _ in range(3):
        for code in (cell, line):
            count = np.bincount(code)
            y = y - (np.bincount(code, y) / count)[code]
            x = x - (np.bincount(code, x) / count)[code]
    xx = float((x * x).sum())
    found["outcome_slope"] = float((x * y).sum() / (xx + 1e-6))
    found["outcome_z"] = float((x * y).sum() / np.sqrt((x * x * y * y).sum() + 1e-6))
    found["twist"] = float(np.log10(xx / len(x) + 1e-4))


_HEAVY = 1000.0


def _too_heavy(evidence: Evidence) -> list[str]:
    """Weights have the expectation 1 whatever donor and target are, so by Markov's inequality their mean over a sweep
    passes 1,000 in one sweep in 1,000 at most. Dependence between rows does not matter."""
    log_w = evidence.rows.log_w[np.isfinite(evidence.rows.log_w)]
    if evidence.donor is DonorKind.CONDITIONED_UNCORRECTED or not len(log_w):
        return []
    top = float(log_w.max())
    mean = top + float(np.log(np.exp(log_w - top).mean()))
    if mean <= np.log(_HEAVY):
        return []
    return [
        f"the weights average to 10^{mean / _DECADE:.1f} where they must average to 1: scores of the checkpoints and "
        "of the donor are at different temperatures, of other texts, or counted over other tokens"
    ]


def exact_faults(evidence: Evidence) -> list[str]:
    """What cannot be true of any weights. Their mean is 1 in expectation; log P - log w is the donor's side: the same
    for a prefix at every checkpoint; and a longer prefix of the same text is never likelier."""
    faults = _too_heavy(evidence)
    rows = evidence.rows.take(np.isfinite(evidence.rows.log_w) & np.isfinite(evidence.rows.log_p))
    if len(rows) < 2:
        return faults
    donor_side = rows.log_p - rows.log_w
    line = rows.trace * (int(rows.level.max()) + 1) + rows.level
    order = np.lexsort((rows.checkpoint, rows.surface, line))
    change, _, _ = _differences(order, line, donor_side)
    scale = float(np.median(np.abs(rows.log_w))) + 1.0
    moved = float((np.abs(change) > 1e-3 + 0.01 * scale).mean()) if len(change) else 0.0
    if moved > 0.02:
        faults.append(
            f"log P - log w of the same prefix differs between checkpoints in {moved:.0%} of comparisons, so the log "
            "weights are not log P - log Q of these prefixes"
        )
    line = (rows.trace * (int(rows.surface.max()) + 1) + rows.surface) * (
        int(rows.checkpoint.max()) + 1
    ) + rows.checkpoint
    order = np.lexsort((rows.level, line))
    change, _, _ = _differences(order, line, rows.log_p)
    likelier = float((change > 0.05).mean()) if len(change) else 0.0
    if likelier > 0.02:
        faults.append(
            f"a longer prefix is likelier than its own beginning in {likelier:.0%} of comparisons, so scores and "
            "prefixes are paired wrongly or scores are noisy"
        )
    return faults
