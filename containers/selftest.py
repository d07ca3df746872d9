"""What an image must show of itself: `python -m foreshock.containers.selftest`, run inside it.

Everything is tried, nothing is read off a label. Exit code 0 means that every check that applies here holds; a check
that cannot apply (no GPU asked for, no djinn in this image) says so and does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import metadata as packages
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import Version

from foreshock.containers.compilers import compile_all
from foreshock.containers.environment import CACHE_FOLDERS
from foreshock.containers.lock import LockError, read_lock
from foreshock.containers.pins import ImagePins, Pins, Variant, parse_version, read_pins
from foreshock.image_contents import differences, in_words
from foreshock.image_record import IMAGE_FOLDER

OWN_PACKAGES = frozenset({"foreshock", "djinn-framework"})


class Status(StrEnum):
    """How a check ended; SKIPPED does not apply here."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


class Gpu(StrEnum):
    """What the caller expects: AUTO takes what is there, REQUIRED fails without a usable GPU, NONE fails with one."""

    AUTO = "auto"
    REQUIRED = "required"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Check:
    """One result; `detail` says what was seen and, for a failure, the next step."""

    name: str
    status: Status
    detail: str


@dataclass(frozen=True, slots=True)
class Subject:
    """The image under test: its record, its pins and what the caller asked for."""

    record: dict[str, str | None]
    pins: Pins
    folder: Path
    scratch: Path
    gpu: Gpu
    allow_weak_sandbox: bool = False

    @property
    def variant(self) -> Variant:
        """cpu or gpu."""
        return Variant(str(self.record["variant"]))

    @property
    def image_pins(self) -> ImagePins:
        """The pins of this variant."""
        return self.pins.images[self.variant]


def check_versions(subject: Subject) -> Check:
    """Every package of the lock in exactly its version, and none besides, foreshock and djinn apart."""
    lock = read_lock(subject.folder / f"{subject.variant.value}.txt")
    if lock.sha256 != subject.record["lock_sha256"]:
        return Check(
            "versions", Status.FAILED, "the lock in the image is not the one it was built from; build it again"
        )
    here: dict[str, str] = {
        canonicalize_name(d.metadata["Name"]): Version(d.version).public for d in packages.distributions()
    }
    problems = compare_versions(lock.versions, here)
    if problems:
        return Check("versions", Status.FAILED, f"{'; '.join(problems)}; build the image again")
    return Check("versions", Status.OK, f"{len(lock.versions)} packages as locked (sha256:{lock.sha256[:12]})")


def compare_versions(locked: dict[str, str], installed: dict[str, str]) -> list[str]:
    """Differences, one phrase each. A local part such as +cpu is not compared: the hash was, at installation."""
    problems = [
        f"{name} {installed.get(name, 'missing')}, locked {version}"
        for name, version in sorted(locked.items())
        if installed.get(name) != Version(version).public
    ]
    extra = sorted(set(installed) - set(locked) - OWN_PACKAGES)
    return problems + ([f"not in the lock: {', '.join(extra)}"] if extra else [])


def check_python(subject: Subject) -> Check:
    """The Python that the lock was resolved for."""
    have = ".".join(platform.python_version_tuple()[:2])
    good = have == subject.image_pins.python
    return Check("python", Status.OK if good else Status.FAILED, f"{have}, pinned {subject.image_pins.python}")


def check_cuda(subject: Subject) -> Check:
    """A CPU image has no CUDA in torch; a GPU image has the pinned one and, where expected, sees a device."""
    import torch

    if subject.variant is Variant.CPU:
        good = torch.version.cuda is None
        return Check(
            "cuda", Status.OK if good else Status.FAILED, f"torch {torch.__version__}, CUDA {torch.version.cuda}"
        )
    if torch.version.cuda != subject.image_pins.cuda:
        return Check("cuda", Status.FAILED, f"torch has CUDA {torch.version.cuda}, pinned {subject.image_pins.cuda}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        status = Status.FAILED if subject.gpu is Gpu.REQUIRED else Status.SKIPPED
        return Check("cuda", status, "no GPU visible; start with --nv (docker: --gpus all) on a GPU node")
    if subject.gpu is Gpu.NONE:
        return Check("cuda", Status.FAILED, f"{count} GPUs visible where none was expected; start without --nv")
    # A product of two small matrices, because a device can be listed and still refuse every kernel.
    total = float(torch.ones(8, 8, device="cuda").matmul(torch.ones(8, 8, device="cuda")).sum())
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(count))
    return Check("cuda", Status.OK if total == 512.0 else Status.FAILED, f"{count} visible: {names}")


def check_driver(subject: Subject) -> Check:
    """The host's driver against the floor of the image's CUDA."""
    floor = subject.image_pins.driver_floor
    if floor is None:
        return Check("driver", Status.SKIPPED, "the cpu image uses no driver")
    version = driver_version()
    if version is None:
        status = Status.FAILED if subject.gpu is Gpu.REQUIRED else Status.SKIPPED
        return Check("driver", status, "no NVIDIA driver visible; start with --nv on a GPU node")
    return judge_driver(version, floor, str(subject.image_pins.cuda), compatible=_compatibility(os.environ))


def _compatibility(environment: Mapping[str, str]) -> bool:
    """Whether vLLM is told to load CUDA's forward compatibility libraries, and they are there."""
    folder = environment.get("VLLM_CUDA_COMPATIBILITY_PATH") or "/usr/local/cuda/compat"
    return environment.get("VLLM_ENABLE_CUDA_COMPATIBILITY") == "1" and any(Path(folder).glob("libcuda.so*"))


def judge_driver(version: str, floor: str, cuda: str, *, compatible: bool = False) -> Check:
    """Compare two driver versions; with the compatibility libraries in use an older one may do, which loading tells."""
    if parse_version(version) < parse_version(floor):
        if compatible:
            return Check("driver", Status.OK, f"{version}, through CUDA {cuda}'s forward compatibility libraries")
        detail = (
            f"driver {version} is older than {floor}, which CUDA {cuda} needs; ask for nodes with a newer driver, or "
            "on data centre GPUs set VLLM_ENABLE_CUDA_COMPATIBILITY=1 (`env` in the profile's container)"
        )
        return Check("driver", Status.FAILED, detail)
    return Check("driver", Status.OK, f"{version}, CUDA {cuda} needs {floor}")


def driver_version(source: Path = Path("/sys/module/nvidia/version")) -> str | None:
    """The loaded kernel driver's version; visible in containers because /sys is."""
    try:
        return source.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def check_vllm(subject: Subject) -> Check:
    """vLLM imports, in a process of its own because its import takes long and changes global state."""
    wanted = subject.image_pins.vllm
    if wanted is None:
        return Check("vllm", Status.SKIPPED, "not part of the cpu image")
    code = "import vllm; from vllm import LLM, SamplingParams; print(vllm.__version__)"
    done = _python(code, timeout_seconds=600)
    have = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    if done.returncode != 0 or have != wanted:
        return Check("vllm", Status.FAILED, f"found {have or 'none'}, pinned {wanted}; {_last_line(done.stderr)}")
    return Check("vllm", Status.OK, f"{have} imports")


def check_compiler(subject: Subject) -> Check:
    """The gpu image compiles at run time what vLLM compiles: C, C++ and CUDA. The cpu image has no compiler."""
    if subject.variant is Variant.CPU:
        found = next((name for name in ("gcc", "cc", "g++", "clang", "nvcc") if shutil.which(name)), None)
        return Check("compiler", Status.OK if found is None else Status.FAILED, found or "none, as expected")
    with tempfile.TemporaryDirectory(dir=subject.scratch) as folder:
        problems = compile_all(Path(folder), sysconfig.get_path("include"), os.environ)
    if problems:
        return Check("compiler", Status.FAILED, f"{'; '.join(problems)}: build the image again")
    return Check("compiler", Status.OK, "C with Python.h, C++ and CUDA to PTX and to a linked library")


def check_slurm(_subject: Subject) -> Check:
    """Slurm's commands are not in the image: jobs are requeued from the host's side."""
    found = [name for name in ("sbatch", "scontrol", "sacct", "srun") if shutil.which(name)]
    if found:
        return Check("slurm", Status.FAILED, f"{', '.join(found)} found inside; start without binding the host's /usr")
    return Check("slurm", Status.OK, "absent, as expected")


def check_sandbox(subject: Subject) -> Check:
    """Which sandbox tier sampled code would run in here, asked of the program itself."""
    done = subprocess.run(
        [sys.executable, "-m", "foreshock", "doctor", "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    try:
        findings = json.loads(done.stdout)
    except ValueError:
        return Check("sandbox", Status.FAILED, f"foreshock doctor gave no answer: {_last_line(done.stderr)}")
    for finding in findings:
        if finding["what"] == "sandbox":
            return judge_sandbox(finding, allow_weak=subject.allow_weak_sandbox)
    return Check("sandbox", Status.FAILED, "foreshock doctor says nothing about the sandbox")


def judge_sandbox(finding: dict[str, str], *, allow_weak: bool) -> Check:
    """Runs refuse what is below the full tier unless they are told to accept it, and so does this."""
    usable = finding["state"] == "ok" or (allow_weak and finding["state"] == "weak")
    detail = finding["found"] + (f"; {finding['fix']}" if finding["fix"] else "")
    if not usable and finding["state"] == "weak":
        detail += "; a run here is refused unless its configuration says verifier: {allow_weak_sandbox: true}"
    return Check("sandbox", Status.OK if usable else Status.FAILED, detail)


def check_contents(subject: Subject) -> Check:
    """Every file as it was when the image was built."""
    found = differences(subject.folder)
    if found:
        return Check("contents", Status.FAILED, f"{in_words(found)}; get or build the image again")
    return Check("contents", Status.OK, str(subject.record["content"]))


def check_scratch(subject: Subject) -> Check:
    """Scratch takes files and runs them, as compiled kernels are loaded from it; every cache folder is writable."""
    try:
        with tempfile.TemporaryDirectory(dir=subject.scratch) as folder:
            script = Path(folder) / "probe"
            script.write_text("#!/bin/sh\nexit 7\n", encoding="utf-8")
            script.chmod(0o700)
            try:
                code = subprocess.run([str(script)], check=False).returncode
            except PermissionError:
                return Check("scratch", Status.FAILED, f"{subject.scratch} is mounted noexec; choose another scratch")
        for name in CACHE_FOLDERS:
            value = os.environ.get(name)
            if value is None:
                return Check("scratch", Status.FAILED, f"{name} is not set; start through the image's environment")
            Path(value).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=value) as file:
                file.write(b"x")
    except OSError as error:
        return Check("scratch", Status.FAILED, f"{error.filename}: {error.strerror}; bind a writable FORESHOCK_SCRATCH")
    free = shutil.disk_usage(subject.scratch).free / 1e9
    status = Status.OK if code == 7 else Status.FAILED
    return Check("scratch", status, f"{subject.scratch} writable, runs files, {free:.1f} GB free")


_OFFLINE = """
import socket, sys
def refuse(event, args):
    local = event == "socket.connect" and isinstance(args[1], (str, bytes))
    if event in ("socket.connect", "socket.getaddrinfo") and not local:
        sys.stderr.write(f"tried to reach {args[1] if event == 'socket.connect' else args[0]}\\n")
        raise SystemExit(9)
sys.addaudithook(refuse)
import torch
from transformers import LlamaConfig, LlamaForCausalLM
torch.manual_seed(0)
config = LlamaConfig(vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
model = LlamaForCausalLM(config).eval()
out = model.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=4, do_sample=False, pad_token_id=0)
print(out.shape[1])
"""


def check_offline(_subject: Subject) -> Check:
    """A model is built and generates while every attempt to reach a network ends the process."""
    done = _python(_OFFLINE, timeout_seconds=300)
    if done.returncode != 0 or done.stdout.strip() != "7":
        return Check("offline", Status.FAILED, _last_line(done.stderr) or f"exit code {done.returncode}")
    hub = os.environ.get("HF_HUB_OFFLINE") == "1"
    detail = "a model generates and nothing reaches for the network"
    return Check("offline", Status.OK if hub else Status.FAILED, detail if hub else "HF_HUB_OFFLINE is not 1")


def check_djinn(subject: Subject) -> Check:
    """djinn's verifiers are there without the packages that djinn's authors need, or djinn is not in this image."""
    if subject.record["djinn_commit"] is None:
        return Check("djinn", Status.SKIPPED, "not in this image; build with --djinn to have it")
    code = "import importlib.util as u; print(u.find_spec('djinn.verifiers') is not None)"
    done = _python(code, timeout_seconds=60)
    good = done.stdout.strip() == "True"
    commit = str(subject.record["djinn_commit"])[:12]
    return Check("djinn", Status.OK if good else Status.FAILED, f"commit {commit}" if good else _last_line(done.stderr))


def check_user(_subject: Subject) -> Check:
    """Sampled code must not start as root of the host's user namespace."""
    if os.geteuid() != 0:
        return Check("user", Status.OK, f"user id {os.geteuid()}")
    try:
        outside = Path("/proc/self/uid_map").read_text(encoding="utf-8").split()[1]
    except (OSError, IndexError):
        outside = "0"
    if outside != "0":
        return Check("user", Status.OK, f"root only inside; user id {outside} outside")
    return Check("user", Status.FAILED, "root; start as an ordinary user")


CHECKS: tuple[Callable[[Subject], Check], ...] = (
    check_python, check_versions, check_cuda, check_driver, check_vllm, check_compiler, check_slurm, check_user,
    check_scratch, check_offline, check_djinn, check_contents, check_sandbox,
)  # fmt: skip


def run_checks(subject: Subject, checks: Iterable[Callable[[Subject], Check]] = CHECKS) -> list[Check]:
    """Run every check; one that breaks is a failure with its error, never an end of the test."""
    results = []
    for check in checks:
        name = check.__name__.removeprefix("check_")
        try:
            results.append(check(subject))
        except (OSError, subprocess.SubprocessError, ValueError, ImportError, RuntimeError, LockError) as error:
            results.append(Check(name, Status.FAILED, f"{type(error).__name__}: {error}"))
    return results


def load_subject(folder: Path, scratch: Path, gpu: Gpu, allow_weak_sandbox: bool = False) -> Subject:
    """Read the image's record. Raises FileNotFoundError outside an image."""
    record = json.loads((folder / "image.json").read_text(encoding="utf-8"))
    return Subject(record, read_pins(folder / "pins.toml"), folder, scratch, gpu, allow_weak_sandbox)


def _python(code: str, timeout_seconds: float) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", code]
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_seconds, check=False)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def main(argv: list[str] | None = None) -> int:
    """Command line. Returns 0 if nothing failed, 1 if something did, 2 outside an image."""
    parser = argparse.ArgumentParser(prog="python -m foreshock.containers.selftest", description="Test this image.")
    parser.add_argument("--gpu", type=Gpu, choices=list(Gpu), default=Gpu.AUTO, help="what to expect (default: auto)")
    parser.add_argument(
        "--scratch", type=Path, help="writable folder (default: FORESHOCK_SCRATCH or the temporary one)"
    )
    parser.add_argument("--allow-weak-sandbox", action="store_true", help="accept a sandbox below the full tier")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--image-folder", type=Path, default=IMAGE_FOLDER, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    scratch = args.scratch or Path(os.environ.get("FORESHOCK_SCRATCH") or tempfile.gettempdir())
    try:
        subject = load_subject(args.image_folder, scratch, args.gpu, args.allow_weak_sandbox)
    except FileNotFoundError as error:
        print(
            f"{error.filename} does not exist: not inside a foreshock image; run foreshock image check", file=sys.stderr
        )
        return 2
    results = run_checks(subject)
    failed = sum(check.status is Status.FAILED for check in results)
    if args.json:
        print(json.dumps({"image": subject.record, "checks": [asdict(check) for check in results]}, indent=2))
    else:
        for check in results:
            print(f"{check.status.value:8}{check.name:10}{check.detail}")
        ok = sum(check.status is Status.OK for check in results)
        print(f"{ok} ok, {failed} failed, {len(results) - ok - failed} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
