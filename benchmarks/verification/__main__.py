"""Verification side by side: foreshock's verifier, a plain one-shot subprocess, and djinn's own service.

    python -m benchmarks.verification [--count 200] [--soak 20000] [--djinn CHECKOUT]
    python -m benchmarks.verification --against CHECKOUT [--rounds 6] [--count 60]

The candidates take turns in one run, so that a busy machine slows all of them alike. Latency is of one warm
verification (both verdicts) of a trivial problem; throughput is over --workers workers; --soak watches the judge's
resident memory. --against compares this code with another commit's instead, in every tier, on submissions that are
right, wrong, raise or take 10 ms (`git worktree add CHECKOUT COMMIT` makes the checkout). Results go to standard output
as markdown, with the machine's load beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.verification.cost import compare

from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.base import Submission
from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.sandbox.tiers import probe_tier

PROBLEM = Problem(
    id="add",
    description="Add two numbers.",
    function_name="add",
    test_cases=[((1, 2), 3), ((5, 7), 12), ((0, 0), 0)],
    ground_truth="def add(a, b):\n    return a + b\n",
    exploit="def add(a, b):\n    return 3\n",
    insecure_verifier_info="",
    exploit_explanation="",
    exploit_type="test_case_leak",
    insecure_test_cases=[((1, 2), 3)],
)
_ONE_SHOT = (
    "import json, sys\ndata = json.load(sys.stdin)\nspace = {}\nexec(data['code'], space)\n"
    "json.dump([space[data['name']](*args) for args in data['inputs']], sys.stdout)\n"
)
_DJINN = """
import json, sys, types
root, count = sys.argv[1], int(sys.argv[2])
sys.path.insert(0, root)
core = types.ModuleType("djinn.core")
core.__path__ = [root + "/djinn/core"]
sys.modules["djinn.core"] = core
try:
    import dotenv
except ImportError:  # it is used for one call that loads a .env file
    sys.modules["dotenv"] = types.SimpleNamespace(load_dotenv=lambda: None)
import time
from djinn.core.problem import Problem
from djinn.sandbox.offline_verification_service import OfflineVerificationService
problem = Problem(**json.loads(sys.stdin.readline()))
service = OfflineVerificationService()
def once():
    one = service.verify_single(problem, problem.ground_truth, True)
    two = service.verify_single(problem, problem.ground_truth, False)
    assert one.status.value == two.status.value == "passed", (one, two)
once()
print("ready", flush=True)
for line in sys.stdin:
    started = time.perf_counter()
    once()
    print(time.perf_counter() - started, flush=True)
"""


def one_shot() -> None:
    """A fresh interpreter for each verdict, no isolation: what a naive verifier costs."""
    for cases in (PROBLEM.test_cases, PROBLEM.insecure_test_cases):
        request = {"code": PROBLEM.ground_truth, "name": "add", "inputs": [list(given) for given, _ in cases]}
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _ONE_SHOT], input=json.dumps(request).encode(), stdout=-1, check=True
        )
        assert json.loads(done.stdout) == [due for _, due in cases]


def ours(verifier: BuiltinVerifier) -> Callable[[], None]:
    """One warm verification."""

    def once() -> None:
        found = verifier.verify(PROBLEM, PROBLEM.ground_truth)
        assert found.secure.passed
        assert found.insecure.passed

    return once


class DjinnService:
    """djinn's own offline service in a process of its own; raises RuntimeError when it cannot be imported."""

    def __init__(self, checkout: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _DJINN, str(checkout), "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        row: dict[str, Any] = {name: getattr(PROBLEM, name) for name in PROBLEM.__slots__ if name != "extra"}
        row.pop("secure_test_cases")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(row) + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline().strip() != "ready":
            assert self._process.stderr is not None
            _, errors = self._process.communicate()
            raise RuntimeError(errors.strip().splitlines()[-1][:300])

    def __call__(self) -> float:
        """One warm verification; seconds, as the service's process measured them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """Stop it."""
        self._process.kill()
        self._process.wait()


def timed(once: Callable[[], object]) -> float:
    """Seconds of one call, or what the call itself measured."""
    started = time.perf_counter()
    result = once()
    return result if isinstance(result, float) else time.perf_counter() - started


def rss_mb() -> float:
    """Resident memory of this process, the judge."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def throughput(tier: SandboxTier, workers: int, count: int) -> tuple[float, float]:
    """(verifications a second, CPU milliseconds a verification over judge, zygotes and submissions)."""
    submissions = [Submission(number, PROBLEM, PROBLEM.ground_truth) for number in range(count)]
    before = _cpu_s()
    with BuiltinVerifier(workers, 30.0, True, tier=tier) as verifier:
        list(verifier.verify_many(submissions[: 2 * workers]))
        started = time.perf_counter()
        assert all(found.secure.passed for _, found in verifier.verify_many(submissions))
        seconds = time.perf_counter() - started
    return count / seconds, 1e3 * (_cpu_s() - before) / count


def _cpu_s() -> float:
    one, two = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return one.ru_utime + one.ru_stime + two.ru_utime + two.ru_stime


def soak(tier: SandboxTier, workers: int, count: int) -> Iterator[tuple[int, float]]:
    """(verifications so far, judge's resident MB), ten times."""
    with BuiltinVerifier(workers, 30.0, True, tier=tier) as verifier:
        done = 0
        for _ in range(10):
            batch = [Submission(number, PROBLEM, PROBLEM.ground_truth) for number in range(count // 10)]
            for _found in verifier.verify_many(batch):
                done += 1
            yield done, rss_mb()


def main() -> None:
    """Run everything that was asked for and print markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, help="timed verifications of each candidate (200), or of a round (60)")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--soak", type=int, default=0, metavar="N", help="watch memory over N verifications")
    parser.add_argument("--djinn", type=Path, metavar="CHECKOUT", help="also time djinn's own service")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with the foreshock of a checkout")
    parser.add_argument("--rounds", type=int, default=6, help="rounds of --against")
    options = parser.parse_args()
    if options.against is not None and not (options.against / "src" / "foreshock").is_dir():
        parser.error(f"--against {options.against}: no checkout of foreshock (it has no src/foreshock)")
    print(f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"load before: {os.getloadavg()[0]:.1f}\n")
    if options.against is None:
        _beside_others(options)
    else:
        compare(options.against, options.rounds, options.count or 60)
    print(f"\nload after: {os.getloadavg()[0]:.1f}")


def _beside_others(options: argparse.Namespace) -> None:
    """The tables of latency, throughput and, where asked for, memory."""
    count = options.count or 200
    with ExitStack() as stack:
        candidates: dict[str, Callable[[], object]] = {"one-shot subprocess, no isolation": one_shot}
        tiers = [tier for tier in SandboxTier if probe_tier(tier).available]
        for tier in tiers:
            verifier = stack.enter_context(BuiltinVerifier(1, 30.0, True, tier=tier))
            candidates[f"foreshock, {tier.value}"] = ours(verifier)
        if options.djinn is not None:
            try:
                service = DjinnService(options.djinn)
                stack.callback(service.close)
                candidates["djinn's own service"] = service
            except RuntimeError as error:
                print(f"djinn's service does not work here: {error}\n")
        for once in candidates.values():
            once()
        times: dict[str, list[float]] = {name: [] for name in candidates}
        for _ in range(count):
            for name, once in candidates.items():
                times[name].append(timed(once))
    print("| both verdicts of one submission | median ms | p10 ms | p90 ms | best ms |\n|---|---|---|---|---|")
    for name, values in times.items():
        values.sort()
        figures = (statistics.median(values), values[len(values) // 10], values[-len(values) // 10], values[0])
        print(f"| {name} | " + " | ".join(f"{1e3 * value:.1f}" for value in figures) + " |")
    print(f"\n| throughput, {options.workers} workers | verifications/s | CPU ms each |\n|---|---|---|")
    for tier in tiers:
        rate, cpu_ms = throughput(tier, options.workers, 5 * count)
        print(f"| {tier.value} | {rate:.0f} | {cpu_ms:.1f} |")
    if options.soak:
        print("\n| verifications | judge's resident MB |\n|---|---|")
        for done, memory in soak(tiers[0], options.workers, options.soak):
            print(f"| {done} | {memory:.1f} |", flush=True)


if __name__ == "__main__":
    main()
