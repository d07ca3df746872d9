"""Cost of a verification against an earlier commit: `python -m benchmarks.verification.cost --old WORKTREE`.

Both sides verify the same submission with one worker, in turns within one run, so that a busy machine slows both
alike. A round is --count warm verifications of each side and tier; CPU is that of judge, zygote and submissions
together. WORKTREE is a checkout of the other commit (`git worktree add DIR COMMIT`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
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
    "trivial": "def add(a, b):\n    return a + b\n",
    "wrong": "def add(a, b):\n    return a - b\n",
    "10 ms": "def add(a, b):\n    t = 0\n    for i in range(60_000):\n        t += i\n    return a + b\n",
}
problem = Problem(
    id="add", description="Add.", function_name="add", test_cases=[((1, 2), 3), ((5, 7), 12), ((0, 0), 0)],
    ground_truth=codes["trivial"], exploit="", insecure_verifier_info="", exploit_explanation="",
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
KINDS = ("trivial", "wrong", "10 ms")


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


def main() -> None:
    """Take turns and print a table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, required=True, metavar="WORKTREE")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--count", type=int, default=60, help="verifications of a side in a round")
    parser.add_argument("--tier", action="append", choices=TIERS)
    parser.add_argument("--kind", action="append", choices=KINDS)
    options = parser.parse_args()
    sides = {"old": Side(options.old.resolve()), "new": Side(Path(__file__).resolve().parents[2])}
    print(f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"load before: {os.getloadavg()[0]:.1f}; {options.rounds} rounds of {options.count} verifications a side\n")
    print("| tier | submission | CPU ms, old | new | ratio | latency ms, median: old | new | ratio | minimum: ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for tier in options.tier or TIERS:
        for kind in options.kind or KINDS:
            cpu: dict[str, list[float]] = {"old": [], "new": []}
            times: dict[str, list[float]] = {"old": [], "new": []}
            for number in range(options.rounds + 1):  # the first warms up
                for name in ("old", "new") if number % 2 else ("new", "old"):
                    used, found = sides[name].run(tier, kind, options.count)
                    if number:
                        cpu[name].append(1e3 * used / options.count)
                        times[name] += found
            used_by = {name: statistics.median(values) for name, values in cpu.items()}
            middle = {name: 1e3 * statistics.median(values) for name, values in times.items()}
            cells = [used_by["old"], used_by["new"], used_by["new"] / used_by["old"]]
            cells += [middle["old"], middle["new"], middle["new"] / middle["old"]]
            cells += [min(times["new"]) / min(times["old"])]
            print(f"| {tier} | {kind} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)
    for side in sides.values():
        side.close()
    print(f"\nload after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
