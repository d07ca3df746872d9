"""Verdicts under load: `python -m benchmarks.verdict_soak --honest 200 --seed 1`.

Honest and hostile submissions go through one verifier while busy processes overload its cores and the whole tree of
judge, zygotes and submissions is stopped (SIGSTOP) and let go on at random. What must hold: no exploit_success, no
honest solution that fails, no verdict for fewer than 2% of them. Exit code 1 where it does not. Busy processes come and
go so that the load stays at --overload a core, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.verdict_soak.submissions import draw_cases

from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.base import Submission
from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier

MOST_NULL = 0.02


def drive(options: argparse.Namespace) -> None:
    """Verify; a JSON line for each submission as it is judged."""
    cases = draw_cases(options.honest, options.hostile, options.seed)
    tier = SandboxTier(options.tier)
    until = time.monotonic() + options.seconds
    with BuiltinVerifier(options.workers, options.timeout, True, tier=tier) as verifier:
        jobs = [Submission(number, case.problem, case.code) for number, case in enumerate(cases)]
        for number, found in verifier.verify_many(jobs):
            case = cases[number]
            line = {
                "kind": case.kind,
                "honest": case.honest,
                "type": case.problem.exploit_type,
                "exploit": found.exploit_success,
                "outcomes": [found.secure.outcome.value, found.insecure.outcome.value],
                "details": [found.secure.detail, found.insecure.detail],
            }
            print(json.dumps(line), flush=True)
            if time.monotonic() > until:
                return


def descendants(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(one) for thread in threads for one in (thread / "children").read_text().split()]
    except OSError:
        return [pid]
    return [pid, *(below for child in children for below in descendants(child))]


def send(pids: list[int], number: int) -> None:
    """A signal to each that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Load:
    """Busy processes, as many as keep the machine's load at `wanted`."""

    def __init__(self, wanted: float) -> None:
        self.wanted = wanted
        self._busy: list[subprocess.Popen[bytes]] = []
        self.seen: list[float] = []

    def adjust(self) -> None:
        """Look at the load; one process more or fewer."""
        self.seen.append(os.getloadavg()[0])
        if self.seen[-1] < self.wanted and len(self._busy) < self.wanted:
            self._busy.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
        elif self.seen[-1] > 1.2 * self.wanted and self._busy:
            self._end(self._busy.pop())

    def _end(self, one: subprocess.Popen[bytes]) -> None:
        one.kill()
        one.wait()

    def close(self) -> None:
        """End all of them."""
        for one in self._busy:
            self._end(one)


def disturb(process: subprocess.Popen[str], load: Load, rng: random.Random, until: float) -> tuple[int, float]:
    """(stops, seconds stopped) until the process ends: its whole tree is stopped for 0.02 to 2.5 s at a time.

    A process that has not ended at `until` (monotonic seconds) is killed; what it judged by then counts.
    """
    stops, stopped_s = 0, 0.0
    while process.poll() is None:
        if time.monotonic() > until:
            process.kill()
            break
        load.adjust()
        time.sleep(rng.uniform(0.3, 3.0))
        if process.poll() is not None:
            break
        tree = descendants(process.pid)
        rng.shuffle(tree)
        pause = rng.choice((0.05, 0.3, 1.0, 2.5)) * rng.uniform(0.5, 1.0)
        send(tree, signal.SIGSTOP)
        time.sleep(pause)
        send(tree, signal.SIGCONT)
        stops, stopped_s = stops + 1, stopped_s + pause
    return stops, stopped_s


Line = dict[str, Any]


def is_null(line: Line) -> bool:
    """Whether there is no verdict."""
    return line["exploit"] is None


def is_failure(line: Line) -> bool:
    """Whether an honest solution was judged, and did not pass both."""
    return line["honest"] and not is_null(line) and line["outcomes"] != ["passed", "passed"]


def is_false_exploit(line: Line) -> bool:
    """Whether a submission was taken for an exploit; none of them is one."""
    return line["exploit"] is True


def main() -> int:
    """Run one piece and print its row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--honest", type=int, default=200)
    parser.add_argument("--hostile", type=int, default=None, help="a third of the honest ones by default")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tier", choices=[tier.value for tier in SandboxTier], default="full")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds of CPU and sleep of each verdict")
    parser.add_argument("--overload", type=int, default=8, help="load of each core")
    parser.add_argument("--seconds", type=float, default=480, help="judge no further submission after this time")
    parser.add_argument("--drive", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hostile is None:
        options.hostile = options.honest // 3
    if options.drive:
        drive(options)
        return 0
    started = time.monotonic()
    load = Load(options.overload * len(os.sched_getaffinity(0)))
    while os.getloadavg()[0] < load.wanted and time.monotonic() - started < 60:
        load.adjust()
        time.sleep(0.5)
    command = [sys.executable, "-m", "benchmarks.verdict_soak", "--drive", *sys.argv[1:]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1)
    try:
        with Path(f"/tmp/verdict-soak-{os.getpid()}").open("w+") as kept:
            reader = subprocess.Popen(["cat"], stdin=process.stdout, stdout=kept)
            stops, stopped_s = disturb(process, load, random.Random(options.seed), started + options.seconds + 60)
            reader.wait()
            kept.seek(0)
            lines = [json.loads(line) for line in kept]
        Path(kept.name).unlink()
    finally:
        process.kill()
        process.wait()
        load.close()
    honest = [line for line in lines if line["honest"]]
    figures: dict[str, object] = {
        "seed": options.seed,
        "tier": options.tier,
        "honest": len(honest),
        "hostile": len(lines) - len(honest),
        "false exploits": sum(map(is_false_exploit, lines)),
        "honest failures": sum(map(is_failure, honest)),
        "honest nulls": sum(map(is_null, honest)),
        "hostile nulls": sum(map(is_null, lines)) - sum(map(is_null, honest)),
        "stops": stops,
        "stopped s": round(stopped_s),
        "s": round(time.monotonic() - started),
        "load, least": round(min(load.seen), 1),
        "median": round(statistics.median(load.seen), 1),
    }
    for line in lines:
        if is_false_exploit(line) or is_failure(line) or is_null(line):
            print(json.dumps(line))
    print(dict(Counter(f"{'honest' if one['honest'] else 'hostile'}: {'/'.join(one['outcomes'])}" for one in lines)))
    print("| " + " | ".join(figures) + " |\n" + "|---" * len(figures) + "|")
    print("| " + " | ".join(map(str, figures.values())) + " |")
    good = not any(is_false_exploit(line) or is_failure(line) for line in lines)
    return 0 if honest and good and sum(map(is_null, honest)) < MOST_NULL * len(honest) else 1


if __name__ == "__main__":
    sys.exit(main())
