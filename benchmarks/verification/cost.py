"""Cost of a verification against another commit's: both verify the same submission in turns within one run.

A round is some warm verifications of each side with one worker; CPU is that of judge, zygote and submissions together.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from itertools import product
from pathlib import Path

_SIDE = r"""
import json, os, sys, time
from pathlib import Path
from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier
try:
    from foreshock.jobs.verify.problem import Problem
except ImportError:
    from foreshock.jobs.verify.base import Problem
try:
    from foreshock.jobs.records.verdicts import SandboxTier
except ImportError:
    from foreshock.jobs.verify.base import SandboxTier
codes = {
    "right": "def add(a, b):\n    return a + b\n",
    "wrong": "def add(a, b):\n    return a - b\n",
    "raises": "def add(a, b):\n    raise ValueError('no')\n",
    "10 ms": "def add(a, b):\n    t = 0\n    for i in range(60_000):\n        t += i\n    return a + b\n",
}
problem = Problem(
    id="add", description="Add.", function_name="add", test_cases=[((1, 2), 3), ((5, 7), 12), ((0, 0), 0)],
    ground_truth=codes["right"], exploit="", insecure_verifier_info="", exploit_explanation="",
    exploit_type="test_case_leak", insecure_test_cases=[((1, 2), 3)],
)
ticks = os.sysconf("SC_CLK_TCK")
def tree(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(map(int, fields[11:15])) / ticks + sum(tree(int(one)) for one in below)
def used():
    while True:
        time.sleep(0.1)  # the last process is being reaped
        try:
            return tree(os.getpid())
        except OSError:
            continue
verifiers = {}
for line in sys.stdin:
    tier, kind, count = json.loads(line)
    if tier not in verifiers:
        verifiers[tier] = BuiltinVerifier(1, 30.0, True, tier=SandboxTier(tier))
        for _ in range(20):
            verifiers[tier].verify(problem, codes[kind])
    before, times = used(), []
    for _ in range(count):
        started = time.perf_counter()
        verifiers[tier].verify(problem, codes[kind])
        times.append(time.perf_counter() - started)
    print(json.dumps([used() - before, times]), flush=True)
for one in verifiers.values():
    one.close()
"""
TIERS = ("full", "no-userns", "rlimits-only")
KINDS = ("right", "wrong", "raises", "10 ms")


class Side:
    """One of the two programs, waiting for rounds."""

    def __init__(self, root: Path) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root / "src"), *filter(None, sys.path)])}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _SIDE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env=environment,
        )

    def run(self, tier: str, kind: str, count: int) -> tuple[float, list[float]]:
        """(CPU seconds of all processes, seconds of each verification)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([tier, kind, count]) + "\n")
        self._process.stdin.flush()
        cpu_s, times = json.loads(self._process.stdout.readline())
        return cpu_s, times

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def compare(checkout: Path, rounds: int, count: int) -> None:
    """Print the table of ratios: this code against that of `checkout`, `rounds` rounds of `count` verifications."""
    sides = {"old": Side(checkout.resolve()), "new": Side(Path(__file__).resolve().parents[2])}
    print(f"{rounds} rounds of {count} verifications a side\n")
    print("| tier | submission | CPU ms, old | new | ratio | latency ms, median: old | new | ratio | minimum: ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for tier, kind in product(TIERS, KINDS):
        cpu: dict[str, list[float]] = {"old": [], "new": []}
        times: dict[str, list[float]] = {"old": [], "new": []}
        for number in range(rounds + 1):  # the first warms up
            for name in ("old", "new") if number % 2 else ("new", "old"):
                used, found = sides[name].run(tier, kind, count)
                if number:
                    cpu[name].append(1e3 * used / count)
                    times[name] += found
        used_by = {name: statistics.median(values) for name, values in cpu.items()}
        middle = {name: 1e3 * statistics.median(values) for name, values in times.items()}
        cells = [used_by["old"], used_by["new"], used_by["new"] / used_by["old"]]
        cells += [middle["old"], middle["new"], middle["new"] / middle["old"]]
        cells += [min(times["new"]) / min(times["old"])]
        print(f"| {tier} | {kind} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)
    for side in sides.values():
        side.close()
