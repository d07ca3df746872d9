"""The testbed cluster as tests use it: commands as its ordinary user, faults as root."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[3]
SCRIPT = REPO / "slurm" / "testbed" / "testbed.sh"
CODE = ("src", "batch", "jobs", "analysis", "slurm", "containers", "tests/slurm")
"""What jobs and the ordinary user's commands read of the checkout."""


@dataclass(frozen=True)
class Testbed:
    """A running testbed."""

    __test__ = False
    state: Path
    user: str

    @property
    def environment(self) -> dict[str, str]:
        """For Slurm's commands."""
        return {"PATH": os.environ["PATH"], "SLURM_CONF": str(self.state / "etc" / "slurm.conf"), "LANG": "C.UTF-8"}

    @property
    def python(self) -> Path:
        """An interpreter that the ordinary user may run, with this environment's packages."""
        return self.state / "venv" / "bin" / "python"

    @property
    def repo(self) -> Path:
        """The checkout, where the ordinary user may read it."""
        return self.state / "checkout"

    @property
    def helpers(self) -> Path:
        """The folder of this file, where the ordinary user may read it."""
        return self.repo / "tests" / "slurm" / "cluster"

    def may_read(self, *paths: Path) -> bool:
        """Whether the ordinary user may read everything below `paths`."""
        done = self.as_user("find", *map(str, paths), "!", "-readable", "-print", "-quit", check=False)
        return done.returncode == 0 and not done.stdout

    def root(self, *argv: str, check: bool = True) -> str:
        """Run a command as root."""
        done = subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def user_argv(self, argv: Sequence[str]) -> list[str]:
        """`argv` as the ordinary user, with a clean environment."""
        home = self.state / "home"
        settings = [f"{key}={value}" for key, value in self.environment.items()]
        settings += [f"HOME={home}", f"USER={self.user}", f"LOGNAME={self.user}", "OMP_NUM_THREADS=1"]
        settings.append(f"TORCHINDUCTOR_CACHE_DIR={home}/.cache/inductor")  # torch makes one in /tmp else
        return ["runuser", "-u", self.user, "--", "env", "-i", "-C", str(home), *settings, *argv]

    def as_user(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as the ordinary user."""
        done = subprocess.run(self.user_argv(argv), capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done

    def folder(self, name: str) -> Path:
        """A fresh folder that belongs to the ordinary user, on the cluster's shared disk."""
        path = self.state / "home" / "runs" / name
        if path.exists():
            shutil.rmtree(path)
        self.as_user("mkdir", "-p", str(path))
        return path

    def submit_standin(self, request: dict[str, Any], name: str = "request.json") -> dict[str, Any]:
        """Submit a stand-in run; returns its journal entry."""
        path = Path(request["run_dir"]) / name
        path.write_text(json.dumps(request))
        path.chmod(0o644)
        argv = ["env", f"PATH={request['path']}:{os.environ['PATH']}"] if "path" in request else []
        done = self.as_user(*argv, str(self.python), str(self.helpers / "submit_standin.py"), str(path))
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def queue(self) -> list[tuple[str, str, str]]:
        """(id, name, state) of every job in the queue."""
        text = self.root("squeue", "-h", "-r", "-o", "%i|%T|%j")  # a name may hold bars
        return [(i, name, state) for i, state, name in (line.split("|", 2) for line in text.splitlines())]

    def nudge(self) -> None:
        """Let requeued jobs start at once instead of after Slurm's two minutes."""
        for job, _, state in self.queue():
            if state == "PENDING":
                info = self.root("scontrol", "-o", "show", "job", job, check=False)
                if "Reason=BeginTime" in info:
                    self.root("scontrol", "update", f"jobid={job}", "StartTime=now", check=False)

    def wait_until(self, what: str, done: Callable[[], bool], seconds: float = 120) -> None:
        """Nudge and look, until `done`."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"{what}: not within {seconds} s\n{self.root('squeue')}"
            self.nudge()
            time.sleep(0.5)

    def wait_idle(self, seconds: float = 180) -> None:
        """Until the queue is empty."""
        self.wait_until("the queue is empty", lambda: not self.queue(), seconds)

    def stop(self, daemon: str) -> None:
        """Stop slurmctld or slurmdbd; `restart` (of the controller) starts it again."""
        pid = int((self.state / "run" / f"{daemon}.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 30
        while Path(f"/proc/{pid}/exe").exists():
            assert time.monotonic() < end, f"{daemon} does not stop"
            time.sleep(0.2)

    def restart(self, daemon: str) -> None:
        """Kill a daemon at once and start it again."""
        done = subprocess.run(
            [str(SCRIPT), "restart", daemon, "--state", str(self.state)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def drained(self) -> Iterator[None]:
        """No job starts in this time; running ones go on. Commands are then never slower than the work they act on."""
        self.root("scontrol", "update", "nodename=ALL", "state=drain", "reason=test")
        try:
            yield
        finally:
            self.root("scontrol", "update", "nodename=ALL", "state=resume")

    def signal_workers(self, name: str) -> None:
        """Send a signal to every worker process of the user; there may be none left."""
        subprocess.run(["pkill", f"-{name}", "-u", self.user, "-f", "foreshock.jobs "], check=False)

    def preempt(self, node: str, seconds: int = 1) -> None:
        """Take a node away for a moment, as the high partition does."""
        options = ["-p", "high", "-w", node, "-c", "4", "-o", "/dev/null", "-J", "bully"]
        self.as_user("sbatch", *options, "--wrap", f"sleep {seconds}")

    def batch_pid(self, job: str) -> int:
        """Process id of a running job's batch shell."""
        info = self.root("scontrol", "-o", "show", "job", job)
        job_id = next(word for word in info.split() if word.startswith("JobId=")).removeprefix("JobId=")
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    cmdline = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if len(cmdline) > 1 and f"/job{int(job_id):05d}/slurm_script".encode() in cmdline[1]:
                    return int(entry.name)
        raise AssertionError(f"no batch shell of job {job} ({job_id})")

    def user_processes(self) -> list[str]:
        """Command lines of the ordinary user's processes."""
        return self.root("ps", "-o", "pid=,args=", "-u", self.user, check=False).splitlines()


def bring_up(*options: str) -> None:
    """Start a testbed."""
    done = subprocess.run([str(SCRIPT), "up", *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def take_down(state: Path) -> None:
    """Stop and remove a testbed, if there is one."""
    done = subprocess.run([str(SCRIPT), "down", "--state", str(state)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def make_interpreter(bed: Testbed) -> None:
    """A virtual environment for the ordinary user, with this one's packages and this checkout's code.

    A checkout may lie where only root can look (a home directory, a strict umask). What the user cannot read is
    copied into the state folder; what the user can read is used in place.
    """
    if bed.python.exists():
        return
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    site = next(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
    if bed.may_read(*(REPO / name for name in CODE)):
        bed.repo.symlink_to(REPO)
    else:
        for name in CODE:
            _copy(REPO / name, bed.repo / name)
    if not bed.may_read(site):
        site = _copy(site, bed.state / "site-packages")
    subprocess.run([_base_python(bed, minor), "-m", "venv", "--without-pip", str(bed.state / "venv")], check=True)
    target = bed.state / "venv" / "lib" / f"python{minor}" / "site-packages" / "borrowed.pth"
    # The code first: an editable installation among the packages may point at what cannot be read.
    target.write_text(f"{bed.repo / 'src'}\nimport site; site.addsitedir({str(site)!r})\n")
    bed.as_user(str(bed.python), "-c", "import foreshock.batch, submitit, torch")


def _base_python(bed: Testbed, minor: str) -> str:
    """An interpreter that the ordinary user may run; the system's if it will do, since images here share its /usr."""
    found = shutil.which(f"python{minor}", path="/usr/bin:/usr/local/bin")
    own = Path(sys.base_prefix) / "bin" / f"python{minor}"
    if found is None and bed.as_user("test", "-x", str(own), check=False).returncode == 0:
        return str(own)
    assert found is not None, (
        f"the testbed's user may not run {own}, and there is no system python{minor}; "
        f"install one (apt-get install python{minor} python{minor}-venv), or use another: make PYTHON=... test-cluster"
    )
    return found


def _copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
    subprocess.run(["chmod", "-R", "a+rX", str(target)], check=True)
    return target
