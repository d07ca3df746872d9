"""Runs attacks in one tier and watches from outside.

Three properties are judged for every attack alike. Nothing escaped, the secure verifier did not pass (its expected
result is a random number that never leaves the judge), and an honest submission right behind it in the same worker
passes.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify import prelude
from foreshock.jobs.verify.attacks import (
    covert,
    files,
    interpreter,
    network,
    next_verification,
    processes,
    resources,
    result_channel,
    system_calls,
    values,
)
from foreshock.jobs.verify.attacks.attack import Attack
from foreshock.jobs.verify.base import Outcome, Verdict
from foreshock.jobs.verify.builtin.family import TestCase
from foreshock.jobs.verify.builtin.verifier import run_secure
from foreshock.jobs.verify.judge import judge_secure, parse, results_of
from foreshock.jobs.verify.sandbox.limits import Limits
from foreshock.jobs.verify.sandbox.watch import Ending
from foreshock.jobs.verify.sandbox.worker import InfraError, Run, Worker, ZygoteConfig
from foreshock.jobs.verify.withhold import came_close

ATTACKS: tuple[Attack, ...] = (
    *files.ATTACKS,
    *network.ATTACKS,
    *system_calls.ATTACKS,
    *processes.ATTACKS,
    *resources.ATTACKS,
    *result_channel.ATTACKS,
    *values.ATTACKS,
    *interpreter.ATTACKS,
    *next_verification.ATTACKS,
    *covert.ATTACKS,
)

_CANARY = "FORESHOCK_ATTACK_CANARY"
_LATE_S = 0.5
_HONEST = "def f(x):\n    return sorted(x)[0] + 1\n"
_HONEST_CASES = [TestCase(([3, 1, 2],), 2), TestCase(([5],), 6)]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one attack achieved in one tier; None or False everywhere is what one hopes for."""

    attack: Attack
    tier: SandboxTier
    escaped: str | None
    forged: bool
    disturbed: str | None
    broke: str | None

    @property
    def held(self) -> bool:
        """Whether sandbox and judge withstood the attack."""
        return self.escaped is None and not self.forged and self.disturbed is None and self.broke is None

    @property
    def text(self) -> str:
        """What went wrong, or "held"."""
        parts = [
            self.escaped and f"escaped ({self.escaped})",
            self.forged and "forged a pass",
            self.disturbed and f"disturbed the next verification ({self.disturbed})",
            self.broke and f"made the sandbox fail ({self.broke})",
        ]
        return "; ".join(part for part in parts if part) or "held"


class World:
    """Things outside the sandbox that an attack must not reach, and the eyes on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = f"foreshock-attack-{secrets.token_hex(8)}"
        self.secret = folder / self.token
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self._unix = socket.socket(socket.AF_UNIX)
        self._unix.bind(str(folder / "socket"))
        self._abstract = socket.socket(socket.AF_UNIX)
        self._abstract.bind(f"\0{self.token}")
        for server in (self._unix, self._abstract):
            server.listen()
        self._datagrams = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
        self._datagrams[0].bind(str(folder / "datagrams"))
        self._datagrams[1].bind(f"\0{self.token}-datagrams")
        for one in (self._tcp, self._udp, self._unix, self._abstract, *self._datagrams):
            one.setblocking(False)
        self._victim = self._start_victim()
        self.restore()

    def _start_victim(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "1000"], env={"SECRET": "1"})

    def describe(self, phase: int) -> dict[str, Any]:
        """The argument of f(world)."""
        return {
            "secret": str(self.secret),
            "folder": str(self.folder),
            "tcp": self._tcp.getsockname()[1],
            "udp": self._udp.getsockname()[1],
            "unix": str(self.folder / "socket"),
            "abstract": self.token,
            "datagrams": [str(self.folder / "datagrams"), f"\0{self.token}-datagrams"],
            "victim": self._victim.pid,
            "judge": os.getpid(),
            "token": self.token,
            "phase": phase,
        }

    def restore(self) -> None:
        """Put everything back as an attack should leave it."""
        for path in self.folder.iterdir():
            if path.name not in ("socket", "datagrams", self.token):
                path.rmdir() if path.is_dir() else path.unlink()
        if self._victim.poll() is not None:
            self._victim = self._start_victim()
        for server in (self._udp, *self._datagrams):
            with suppress(BlockingIOError):
                while server.recv(10):
                    pass
        with suppress(OSError):
            os.removexattr(self.secret, "user.x")
        self.secret.write_text("secret")
        self.secret.chmod(0o644)
        os.utime(self.secret, (1e9, 1e9))
        self._seen = self._look()

    def _look(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for path in sorted(self.folder.iterdir()):
            status = path.stat()
            text = path.read_text() if path.is_file() else None
            out[path.name] = (status.st_mode, status.st_mtime, text, os.listxattr(path))
        return out

    def damage(self) -> str | None:
        """What an attack visibly did out here; None when nothing."""
        if self._look() != self._seen:
            return "the user's files changed"
        if self._victim.poll() is not None:
            return "a process of the user was killed"
        for name, server in (("TCP", self._tcp), ("unix", self._unix), ("abstract unix", self._abstract)):
            with suppress(BlockingIOError):
                server.accept()[0].close()
                return f"{name} connection"
        for name, server in (("UDP", self._udp), *(("unix", one) for one in self._datagrams)):
            with suppress(BlockingIOError):
                server.recv(10)
                return f"{name} datagram"
        for path in (Path("/tmp", self.token), Path("/tmp/foreshock-attack-reduce")):
            if path.exists():
                path.unlink()
                return f"a file in {path.parent} of the host"
        return None

    def close(self) -> None:
        """Stop the victim, close the sockets."""
        self._victim.send_signal(signal.SIGKILL)
        self._victim.wait()
        for one in (self._tcp, self._udp, self._unix, self._abstract, *self._datagrams):
            one.close()
        for folder in ("/tmp", "/var/tmp", "/dev/shm"):
            for name in (self.token, "json.py", "struct.py", "random.py", "psutil.py", "sitecustomize.py"):
                planted = Path(folder, name)
                if planted.is_file() and planted.read_text() == "import os; os._exit(0)":
                    planted.unlink()


@contextmanager
def attack_lab(tier: SandboxTier) -> Iterator[Lab]:
    """A world, and a worker of `tier` to attack it from."""
    os.environ[_CANARY] = "1"
    worker = Worker(ZygoteConfig(tier, "foreshock.jobs.verify.runner", Limits(), prelude.PRELOAD))
    with tempfile.TemporaryDirectory(prefix="foreshock-attack-") as folder:
        world = World(Path(folder))
        try:
            yield Lab(tier, world, worker)
        finally:
            worker.close()
            world.close()
            os.environ.pop(_CANARY, None)


class Lab:
    """Runs attacks of one tier, one after the other in one worker."""

    def __init__(self, tier: SandboxTier, world: World, worker: Worker) -> None:
        self.tier = tier
        self._world = world
        self._worker = worker

    def run(self, attack: Attack) -> Finding:
        """Run one attack and look at everything it may have touched."""
        answer = secrets.randbits(62) | 1 << 62
        forged, inside, broke = False, None, None
        for phase in range(attack.phases):
            cases = [TestCase((self._world.describe(phase),), answer)]
            try:
                run = run_secure(self._worker, "f", attack.code, cases, attack.wall_s)
            except InfraError as error:
                broke = str(error)
                break
            try:
                verdict = judge_secure(run, cases, True, attack.wall_s)
                came_close((results_of(run) or [None])[0], answer)
            except Exception as error:  # noqa: BLE001 - whatever it is, a submission must not bring it about
                broke = f"the judge raised {type(error).__name__}"
                break
            forged |= verdict.passed is True
            broke = broke or (verdict.detail if verdict.outcome is Outcome.INFRA_ERROR else None)
            inside = _claim(run) or inside
        disturbed = self._honest()
        if attack.late:
            time.sleep(_LATE_S)
        outside = self._world.damage()
        if outside or inside:
            self._world.restore()
        return Finding(attack, self.tier, outside or inside, forged, disturbed, broke)

    def _honest(self) -> str | None:
        try:
            verdict = judge_secure(run_secure(self._worker, "f", _HONEST, _HONEST_CASES), _HONEST_CASES, True, 10.0)
        except InfraError as error:
            verdict = Verdict(Outcome.INFRA_ERROR, str(error))
        return None if verdict.passed is True else f"{verdict.outcome.value}: {verdict.detail}"


def _claim(run: Run) -> str | None:
    """The attack's own word that it succeeded."""
    if run.ending is not Ending.RESULT:
        return None
    message = parse(run.payload)
    results = message.get("results") if isinstance(message, dict) else None
    if not isinstance(results, list) or len(results) != 1 or not isinstance(results[0], list) or not results[0]:
        return None
    value = results[0][0]
    return value if isinstance(value, str) and value.startswith("escaped") else None


def run_attacks(tier: SandboxTier, attacks: Iterable[Attack] = ATTACKS) -> list[Finding]:
    """Every attack that is safe to try in this tier."""
    with attack_lab(tier) as lab:
        return [lab.run(attack) for attack in attacks if tier in attack.run_on]
