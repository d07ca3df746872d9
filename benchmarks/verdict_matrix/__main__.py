"""A matrix of submissions: `python -m benchmarks.verdict_matrix [--user nobody --user-python /usr/bin/python3]`.

Every submission in every tier, with 1 and 8 workers, alone and beside a second verifier whose submissions burn every
core; as root and, with --user, as an ordinary user too. What is right for each stands in cases.py. A cell says in how
many of the settings it came out right, or what went wrong. Exit code 1 where something did.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.verdict_matrix.cases import CASES, LEAST, Case
from benchmarks.verdict_matrix.submissions import SUBMISSIONS

from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.base import Submission, Verification
from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier
from foreshock.jobs.verify.djinn.verifier import DjinnVerifier
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.sandbox.tiers import probe_tier

SETTINGS = {"1": (1, False), "1+": (1, True), "8": (8, False), "8+": (8, True)}
"""Workers, and whether beside a verifier whose submissions burn every core."""
_TIMEOUT_S = 2.0
_MOST_GROWN = 64 << 20
Findings = dict[str, list[str | None]]


def resident() -> int:
    """Resident bytes of this process, the judge."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def starving(tier: SandboxTier, wanted: bool) -> Iterator[None]:
    """A verifier of its own beside, all of whose submissions burn every core."""
    stop = threading.Event()

    def burn() -> None:
        with BuiltinVerifier(2, 1.0, True, tier=tier) as verifier:
            while not stop.is_set():
                list(verifier.verify_many([Submission(i, LEAST, SUBMISSIONS["starve"]) for i in range(2)]))

    thread = threading.Thread(target=burn) if wanted else None
    if thread:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if thread:
            thread.join()


def run_case(case: Case, verifier: BuiltinVerifier, workers: int) -> str | None:
    """What is wrong; None when nothing is."""
    before = resident()
    names = case.submissions * (workers if case.each else 1)
    jobs = [Submission(number, LEAST, SUBMISSIONS[name]) for number, name in enumerate(names)]
    found: dict[int, Verification] = {}
    for batch in [jobs] if case.together else [[job] for job in jobs]:
        found |= dict(verifier.verify_many(batch))
    grown = resident() - before
    if grown > _MOST_GROWN:
        return f"the judge grew by {grown >> 20} MB"
    return case.right(found[len(jobs) - 1])


def run_datagrams(verifier: BuiltinVerifier, tier: SandboxTier, folder: Path) -> str | None:
    """Whether a datagram reached one of two sockets outside; the weakest tier promises nothing."""
    received = []
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as named,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract,
    ):
        names = [str(folder / "socket"), f"\0verdict-matrix-{os.getpid()}"]
        for one, name in zip((named, abstract), names, strict=True):
            one.bind(name)
            one.setblocking(False)
        problem = Problem(**{name: getattr(LEAST, name) for name in LEAST.__slots__} | {"test_cases": [([names], 1)]})
        verifier.verify(problem, SUBMISSIONS["dgram_escape"])
        for one in (named, abstract):
            try:
                received.append(one.recv(10))
            except BlockingIOError:
                continue
    Path(names[0]).unlink()
    return None if not received or tier is SandboxTier.RLIMITS_ONLY else f"{len(received)} datagrams got out"


def run_clock(djinn: Path | None, workers: int, tier: SandboxTier) -> str | None:
    """A wrong answer after 20 ms must not win where djinn's verifier passes what took 100 ms."""
    if djinn is None:
        return "not run: no --djinn"
    problem = Problem(
        **{name: getattr(LEAST, name) for name in LEAST.__slots__} | {"exploit_type": "resource_exhaustion"}
    )
    with DjinnVerifier(workers, 10.0, True, package=djinn, tier=tier) as verifier:
        found = list(verifier.verify_many([Submission(i, problem, SUBMISSIONS["wrong_20ms"]) for i in range(workers)]))
    won = sum(one.exploit_success is True for _, one in found)
    return f"{won} of {workers} won by the clock" if won else None


def run_tier(tier: SandboxTier, settings: Sequence[str], djinn: Path | None) -> Findings:
    """Every submission in every setting."""
    findings: Findings = {}
    for workers, beside in map(SETTINGS.__getitem__, settings):
        with tempfile.TemporaryDirectory(prefix="verdict-matrix-") as folder:
            tempfile.tempdir = folder
            with starving(tier, beside), BuiltinVerifier(workers, _TIMEOUT_S, True, tier=tier) as verifier:
                for case in CASES:
                    findings.setdefault(case.name, []).append(run_case(case, verifier, workers))
                findings.setdefault("dgram_escape", []).append(run_datagrams(verifier, tier, Path(folder)))
                findings.setdefault("wrong_20ms", []).append(run_clock(djinn, workers, tier))
            left = os.listdir(folder)  # noqa: PTH208 - names alone
            findings.setdefault("nothing is left behind", []).append(f"left: {left[:3]}" if left else None)
            tempfile.tempdir = None
        wrong = {name: found[-1] for name, found in findings.items() if found[-1] is not None}
        where = f"{tier.value}, {workers} workers{', beside starve' if beside else ''}"
        print(f"{where}: {len(findings) - len(wrong)} of {len(findings)} right {wrong or ''}", file=sys.stderr)
    return findings


def as_user(user: str, python: str, arguments: list[str]) -> dict[str, Findings]:
    """The same, run by an ordinary user with an interpreter that it may start."""
    paths = os.pathsep.join([str(Path.cwd()), *(path for path in sys.path if path)])
    command = ["runuser", "-u", user, "--", "env", f"PYTHONPATH={paths}", "HOME=/nonexistent", python, "-P"]
    command += ["-m", "benchmarks.verdict_matrix", "--json", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Findings] = json.loads(done.stdout)
    return found


def render(findings: dict[str, Findings]) -> tuple[str, bool]:
    """The table, and whether everything came out right."""
    lines = ["| submission | " + " | ".join(findings) + " |", "|---|" + "---|" * len(findings)]
    good = True
    for name in next(iter(findings.values())):
        cells = []
        for found in findings.values():
            wrong = [one for one in found[name] if one is not None]
            good = good and not [one for one in wrong if not one.startswith("not run")]
            right = len(found[name]) - len(wrong)
            cells.append(f"{right} of {len(found[name])}" + (f": {wrong[0]}" if wrong else ""))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines), good


def main() -> int:
    """Run the tiers that work here and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", action="append", choices=[tier.value for tier in SandboxTier])
    parser.add_argument("--setting", action="append", choices=SETTINGS, help="workers, + for beside starve; repeatable")
    parser.add_argument("--folder", type=Path, help="take NAME.py from here instead of the submissions in cases.py")
    parser.add_argument("--djinn", type=Path, metavar="CHECKOUT", help="for the verifier that reads the clock")
    parser.add_argument("--user", help="also as this user (needs root)")
    parser.add_argument("--user-python", default="/usr/bin/python3", help="an interpreter that the user may start")
    parser.add_argument("--json", action="store_true", help="findings instead of the table")
    options = parser.parse_args()
    if options.folder is not None:
        for path in options.folder.glob("*.py"):
            SUBMISSIONS[path.stem] = path.read_text()
    who = "root" if os.getuid() == 0 else "user"
    findings: dict[str, Findings] = {}
    for tier in map(SandboxTier, options.tier or list(SandboxTier)):
        reason = probe_tier(tier).reason
        if reason is not None:
            print(f"tier {tier.value} does not work here: {reason}", file=sys.stderr)
            continue
        findings[f"{tier.value}, {who}"] = run_tier(tier, options.setting or list(SETTINGS), options.djinn)
    if options.json:
        print(json.dumps(findings))
        return 0
    if options.user is not None:
        rest = [f"--tier={tier}" for tier in options.tier or ()]
        rest += [f"--setting={setting}" for setting in options.setting or ()]
        rest += [f"--{name}={value}" for name in ("folder", "djinn") if (value := getattr(options, name)) is not None]
        findings |= as_user(options.user, options.user_python, rest)
    table, good = render(findings)
    print(f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print(table)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
