"""Specs into array tasks: few model loads, a short makespan, bounded wall time.

This is bin packing with items that may be cut (a checkpoint's specs can be spread over tasks, at one more load per
cut), so it is solved as such: fill whole tasks from checkpoints larger than one task, place the remainders whole by
best fit, and cut only what fits nowhere. The capacity of a task is tried from the lower bound of the makespan
upwards, and the fewest loads within `SLACK` of that bound win. A greedy longest-first list schedule would be shorter
still, but it loads every checkpoint nearly everywhere.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from foreshock.batch.packing.cost import CostModel
from foreshock.batch.packing.totals import list_makespan
from foreshock.jobs.records.spec import ArrayTask, Checkpoint, JobSpec

SLACK = 1.098  # makespans up to this multiple of the lower bound count as equally short
CAPACITIES = (1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06, 1.07, 1.08, 1.09, 1.098)
DEFAULT_SAFETY = 0.85  # share of the wall time that packing fills; estimates are wrong and nodes are slow


@dataclass(frozen=True, slots=True)
class _Item:
    spec: JobSpec
    seconds: float


@dataclass(slots=True)
class _Group:
    """A checkpoint's specs still to be placed, longest first."""

    rank: int
    items: list[_Item]
    work: float


@dataclass(slots=True)
class _Bin:
    """One task being filled; `used` counts its load, swaps and work."""

    used: float
    pieces: list[tuple[int, list[_Item]]] = field(default_factory=list)

    def add(self, group: int, items: list[_Item], cost: CostModel) -> None:
        """Append `items`; a checkpoint that is not here yet costs a load (the first) or a swap."""
        for rank, present in self.pieces:
            if rank == group:
                present.extend(items)
                break
        else:
            self.used += cost.swap_s if self.pieces else cost.load_s
            self.pieces.append((group, list(items)))
        self.used += sum(item.seconds for item in items)

    def holds(self, group: int) -> bool:
        """Whether that checkpoint is loaded here anyway."""
        return any(rank == group for rank, _ in self.pieces)

    def remove(self, group: int, item: _Item, cost: CostModel) -> None:
        """Take `item` out again, and its checkpoint's load with the last one."""
        at, items = next((i, items) for i, (rank, items) in enumerate(self.pieces) if rank == group)
        items.remove(item)
        self.used -= item.seconds
        if not items:
            del self.pieces[at]
            self.used = self.used - cost.swap_s if self.pieces else 0.0


def pack(
    specs: Sequence[JobSpec],
    cost: CostModel,
    n_workers: int,
    max_minutes: float,
    safety: float = DEFAULT_SAFETY,
) -> list[ArrayTask]:
    """Array tasks, longest first, holding every spec exactly once.

    No task is estimated above `max_minutes * safety`, except a task of a single spec that alone exceeds it
    (`packed.oversized` finds those). The result depends on the set of specs, not on their order. Raises ValueError for
    no workers, a wall time that is not positive, or a spec given twice.
    """
    if n_workers < 1:
        raise ValueError(f"n_workers is {n_workers}; valid: 1 or more GPUs")
    if not (max_minutes > 0 and 0 < safety <= 1):
        raise ValueError(f"max_minutes {max_minutes} with safety {safety}; valid: above 0, and 0 < safety <= 1")
    if not specs:
        return []
    groups = _group(specs, cost)
    limit = max_minutes * 60 * safety
    bound = _makespan_bound(groups, cost, n_workers, limit)
    candidates: list[tuple[bool, float, float, list[_Bin]]] = []
    for factor in CAPACITIES:
        target = bound * factor
        waves = max(1, math.ceil(target / limit))
        capacity = min(limit, target / waves)
        for cut in (True, False) if waves > 1 else (True,):
            bins = _fill(groups, cost, waves * n_workers, capacity, limit, cut=cut)
            _smooth(bins, cost, waves * n_workers, limit, bound * SLACK / waves)
            candidates.append(_judge(bins, n_workers, bound))
    if min(candidates, key=lambda c: c[:3])[0]:
        bins = _spread(groups, cost, n_workers, limit)
        candidates.append(_judge(bins, n_workers, bound))
    best = min(candidates, key=lambda c: c[:3])[3]
    return _to_tasks(best, cost)


def _judge(bins: list[_Bin], n_workers: int, bound: float) -> tuple[bool, float, float, list[_Bin]]:
    """Sort key: short enough first, then loads; among those that are not, the shortest."""
    makespan = list_makespan(sorted((b.used for b in bins), reverse=True), n_workers)
    late = makespan > bound * SLACK
    return (late, makespan if late else sum(len(b.pieces) for b in bins), makespan, bins)


def makespan_lower_bound(
    specs: Sequence[JobSpec], cost: CostModel, n_workers: int, max_minutes: float, safety: float = DEFAULT_SAFETY
) -> float:
    """Minutes that no schedule on `n_workers` workers can beat, whatever it does.

    The largest of: the longest spec with its load; the two shortest of the n_workers + 1 longest specs on one
    worker; and all work plus the loads nobody can avoid (one per checkpoint, one start per task, at least
    n_workers or work / wall time tasks), shared evenly.
    """
    if not specs:
        return 0.0
    return _makespan_bound(_group(specs, cost), cost, n_workers, max_minutes * 60 * safety) / 60


def loads_lower_bound(specs: Sequence[JobSpec], cost: CostModel, task_minutes: float) -> int:
    """Loads that no packing into tasks of at most `task_minutes` can avoid.

    A task holds at most `task_minutes` less a swap of any one checkpoint, so a checkpoint of work W needs
    ceil(W / that) loads; and all of it needs at least total / `task_minutes` tasks.
    """
    groups = _group(specs, cost)
    seconds = task_minutes * 60
    per_checkpoint = sum(max(1, math.ceil(g.work / max(seconds - cost.swap_s, 1e-9) - 1e-9)) for g in groups)
    total = sum(g.work for g in groups)
    return max(per_checkpoint, math.ceil(total / max(seconds - cost.load_s, 1e-9) - 1e-9))


def _group(specs: Sequence[JobSpec], cost: CostModel) -> list[_Group]:
    """Specs by checkpoint, largest first inside; the checkpoints in their own order, whatever came in."""
    by_checkpoint: dict[tuple[Checkpoint, str], list[tuple[float, str, JobSpec]]] = {}
    seen: set[str] = set()
    for spec in specs:
        key = spec.key()
        if key in seen:
            raise ValueError(f"spec {key[:12]} ({spec.kind} of {spec.checkpoint.name}) is given twice")
        seen.add(key)
        entry = (-cost.spec_seconds(spec), key, spec)
        by_checkpoint.setdefault((spec.checkpoint, spec.model_fingerprint), []).append(entry)

    def order(item: tuple[Checkpoint, str]) -> tuple[str, float, str, str, str]:
        point, fingerprint = item
        step = math.inf if point.step is None else float(point.step)
        return (point.run, step, str(point.path), point.revision or "", fingerprint)

    groups = []
    for rank, name in enumerate(sorted(by_checkpoint, key=order)):
        entries = sorted(by_checkpoint[name], key=lambda e: e[:2])
        items = [_Item(spec, -negative) for negative, _, spec in entries]
        groups.append(_Group(rank, items, sum(item.seconds for item in items)))
    return groups


def _makespan_bound(groups: Sequence[_Group], cost: CostModel, n_workers: int, limit: float) -> float:
    """Seconds; see `makespan_lower_bound`. The smallest T that the counting argument does not refute: at
    makespan T a checkpoint of work W needs at least ceil(W / (longest task less a swap)) loads."""
    longest = sorted((item.seconds for group in groups for item in group.items), reverse=True)
    low = longest[0] + cost.load_s
    if len(longest) > n_workers:
        low = max(low, longest[n_workers - 1] + longest[n_workers] + cost.load_s)
    total = sum(longest)
    room = limit - cost.load_s
    n_starts = n_workers if room <= 0 else max(n_workers, math.ceil(sum(s for s in longest if s <= room) / room))
    n_starts = min(n_starts, len(longest))

    def refuted(makespan: float) -> bool:
        task = max(min(makespan, limit), longest[0] + cost.load_s) - cost.swap_s
        n_loads = sum(max(1, math.ceil(g.work / task - 1e-9)) for g in groups)
        overhead = n_starts * cost.load_s + max(0, n_loads - n_starts) * cost.swap_s
        # fewer starts than n_starts would save loads but not time: the work is spread over fewer workers
        return total + overhead > n_workers * makespan * (1 + 1e-12)

    high = low
    while refuted(high):
        low, high = high, high * 2
    for _ in range(50 if high > low else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def _take(items: list[_Item], room: float) -> tuple[list[_Item], list[_Item]]:
    """Items (longest first) that fit into `room` together, greedily, and the rest, order kept."""
    taken: list[_Item] = []
    rest: list[_Item] = []
    for item in items:
        if item.seconds <= room:
            taken.append(item)
            room -= item.seconds
        else:
            rest.append(item)
    return taken, rest


def _fill(
    groups: Sequence[_Group], cost: CostModel, n_bins: int, capacity: float, limit: float, *, cut: bool
) -> list[_Bin]:
    """Fill about `n_bins` tasks up to `capacity` seconds each; `limit` is never passed but by a lone spec."""
    bins: list[_Bin] = []
    remainders: list[_Group] = []
    for group in groups:
        remainder = _fill_whole(group, cost, capacity, bins)
        if remainder.items:
            remainders.append(remainder)
    bins += [_Bin(0.0) for _ in range(n_bins - len(bins))]
    remainders.sort(key=lambda g: (-g.work, g.rank))
    unplaced = _place_whole(remainders, cost, capacity, bins)
    for group in unplaced:
        if cut:
            _place_cut(group, cost, capacity, limit, bins)
        else:
            bins.append(_Bin(0.0))
            bins[-1].add(group.rank, group.items, cost)
    return [b for b in bins if b.pieces]


def _fill_whole(group: _Group, cost: CostModel, capacity: float, bins: list[_Bin]) -> _Group:
    """Open a task of its own for every `capacity` seconds of `group`; returns what is left of it."""
    items, work = group.items, group.work
    while items and work > capacity - cost.load_s:
        taken, rest = _take(items, capacity - cost.load_s)
        if not taken:  # the longest spec alone is above capacity
            taken, rest = items[:1], items[1:]
        fresh = _Bin(0.0)
        fresh.add(group.rank, taken, cost)
        bins.append(fresh)
        items, work = rest, sum(item.seconds for item in rest)
    return _Group(group.rank, items, work)


def _place_whole(groups: Sequence[_Group], cost: CostModel, capacity: float, bins: list[_Bin]) -> list[_Group]:
    """Best fit, largest first: each remainder goes whole into the fullest task that can hold it."""
    free = sorted((_room(b, cost, capacity), i) for i, b in enumerate(bins))
    unplaced = []
    for group in groups:
        at = bisect_left(free, (group.work, -1))
        if at == len(free):
            unplaced.append(group)
            continue
        _, i = free.pop(at)
        bins[i].add(group.rank, group.items, cost)
        insort(free, (_room(bins[i], cost, capacity), i))
    return unplaced


def _place_cut(group: _Group, cost: CostModel, capacity: float, limit: float, bins: list[_Bin]) -> None:
    """Cut `group` over the tasks with the most room; what is left over goes where it disturbs least."""
    items = group.items
    while items:
        roomiest = max(range(len(bins)), key=lambda i: (_room(bins[i], cost, capacity), -i))
        taken, rest = _take(items, _room(bins[roomiest], cost, capacity))
        if not taken:
            break
        bins[roomiest].add(group.rank, taken, cost)
        items = rest
    heap: list[tuple[float, int]] = []
    if items:
        for i, b in enumerate(bins):
            heappush(heap, (b.used, i))
    for item in items:
        used, i = heap[0]
        if used and used + cost.swap_s + item.seconds > limit:
            bins.append(_Bin(0.0))
            i = len(bins) - 1
        else:
            heappop(heap)
        bins[i].add(group.rank, [item], cost)
        heappush(heap, (bins[i].used, i))


def _spread(groups: Sequence[_Group], cost: CostModel, n_workers: int, limit: float) -> list[_Bin]:
    """Longest spec first, each to the task that would end first with it, loads counted: for coarse specs, where
    filling cannot get near the bound."""
    items = sorted(((g.rank, item) for g in groups for item in g.items), key=lambda ri: (-ri[1].seconds, ri[0]))
    bins = [_Bin(0.0) for _ in range(n_workers)]
    for rank, item in items:
        ends = [
            b.used + item.seconds + (0.0 if b.holds(rank) else cost.swap_s if b.pieces else cost.load_s) for b in bins
        ]
        best = min(range(len(bins)), key=lambda i: (bins[i].pieces != [] and ends[i] > limit, ends[i], i))
        if bins[best].pieces and ends[best] > limit:
            bins.append(_Bin(0.0))
            best = len(bins) - 1
        bins[best].add(rank, [item], cost)
    return [b for b in bins if b.pieces]


def _smooth(bins: list[_Bin], cost: CostModel, n_bins: int, limit: float, goal: float) -> None:
    """While the longest of at most `n_bins` tasks exceeds `goal`, move the spec of it that helps most elsewhere."""
    if len(bins) > n_bins:
        return
    while len(bins) < n_bins:
        bins.append(_Bin(0.0))
    for _ in range(4 * min(n_bins, 256)):
        worst = max(range(len(bins)), key=lambda i: (bins[i].used, -i))
        if bins[worst].used <= goal:
            break
        move = _best_move(bins, worst, cost, limit)
        if move is None:
            break
        rank, item, target = move
        bins[worst].remove(rank, item, cost)
        bins[target].add(rank, [item], cost)
    bins[:] = [b for b in bins if b.pieces]


def _best_move(bins: list[_Bin], worst: int, cost: CostModel, limit: float) -> tuple[int, _Item, int] | None:
    """(group, spec, task) whose move leaves the longer of the two tasks shortest, below where it is now."""
    best: tuple[float, int, int, int] | None = None
    source = bins[worst]
    by_use = sorted(range(len(bins)), key=lambda i: (bins[i].used, i))
    for rank, items in source.pieces:
        targets = [i for i in by_use if i != worst and bins[i].holds(rank)][:2] + by_use[:2]
        for at, item in enumerate(items):
            left = source.used - item.seconds - (cost.swap_s if len(items) == 1 else 0.0)
            for i in targets:
                b = bins[i]
                extra = 0.0 if b.holds(rank) else cost.swap_s if b.pieces else cost.load_s
                longer = max(left, b.used + item.seconds + extra)
                if i == worst or longer >= source.used - 1e-9 or b.used + item.seconds + extra > limit:
                    continue
                if best is None or (longer, rank, at, i) < best:
                    best = (longer, rank, at, i)
    if best is None:
        return None
    _, rank, at, target = best
    items = next(items for r, items in source.pieces if r == rank)
    return rank, items[at], target


def _room(b: _Bin, cost: CostModel, capacity: float) -> float:
    """Seconds of one more checkpoint's work that fit into `b`."""
    return capacity - b.used - (cost.swap_s if b.pieces else cost.load_s)


def _to_tasks(bins: Sequence[_Bin], cost: CostModel) -> list[ArrayTask]:
    """Longest first, so that a free GPU never starts the longest task last. Inside a task, checkpoints stay
    together and specs keep an order that does not depend on costs, which re-estimation changes."""
    chains = []
    for b in bins:
        pieces = sorted(b.pieces, key=lambda piece: piece[0])
        specs = [
            item.spec
            for _, items in pieces
            for item in sorted(items, key=lambda it: (it.spec.kind, it.spec.levels, it.spec.shard_index, it.spec.key()))
        ]
        chains.append((-cost.chain_seconds(specs), specs[0].key(), specs))
    chains.sort(key=lambda c: c[:2])
    return [ArrayTask(i, tuple(specs), -negative / 60) for i, (negative, _, specs) in enumerate(chains)]
