"""Finding the real djinn package without importing it.

The package is recognised by its content. PyPI's `djinn` is an unrelated web framework, and the right distribution,
`djinn-framework`, is installed from a commit, from a checkout, or not at all.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from foreshock.errors import InputError

COMMIT = "8455a6a"
INSTALL = f'pip install --no-deps "djinn-framework @ git+https://github.com/EleutherAI/djinn@{COMMIT}"'
_INSECURE = Path("verifiers", "insecure")
_SHARED_TMP = "/tmp/"
_FEW_CASES = frozenset({"test_case_leak", "hardcoding_or_memorization", "inadequate_test_coverage"})


@dataclass(frozen=True, slots=True)
class InsecureVerifier:
    """One of djinn's flawed verifiers, as its source tells.

    patterns: regular expressions of djinn's own that mark an attempt at the intended exploit.
    shared_tmp: it writes to fixed names in /tmp, so it is only right with a private one. reads_clock: it may pass a
    submission for the time that it took.
    """

    exploit_type: str
    patterns: tuple[str, ...]
    shared_tmp: bool
    reads_clock: bool = False

    @property
    def always_intended(self) -> bool:
        """Where the weakness is too few cases, every wrong answer that passes them is the intended exploit."""
        return self.exploit_type in _FEW_CASES or not self.patterns


@dataclass(frozen=True, slots=True)
class DjinnPackage:
    """An installed or checked-out djinn. `root` is what goes on sys.path."""

    root: Path
    verifiers: dict[str, InsecureVerifier]
    digest: str

    @property
    def exploit_types(self) -> list[str]:
        """Exploit types that have a flawed verifier, sorted."""
        return sorted(self.verifiers)


def find_package(path: Path | None = None) -> DjinnPackage:
    """The djinn checkout at `path`, or the installed package. Raises InputError saying what is there instead."""
    folder = _installed() if path is None else path / "djinn"
    insecure = folder / _INSECURE
    if not insecure.is_dir():
        raise InputError(_wrong(folder, installed=path is None), fix=INSTALL)
    sources = sorted(insecure.glob("*.py"))
    verifiers = {source.stem: _describe(source) for source in sources if source.stem != "__init__"}
    digest = hashlib.sha256()
    for source in (*sources, *sorted(insecure.glob("helpers/*.py"))):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return DjinnPackage(folder.parent.resolve(), verifiers, digest.hexdigest())


def _installed() -> Path:
    spec = importlib.util.find_spec("djinn")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("verifier 'djinn' needs the djinn-framework package, which is not installed", fix=INSTALL)
    return Path(next(iter(spec.submodule_search_locations)))


def _wrong(folder: Path, installed: bool) -> str:
    if not installed:
        return f"no djinn checkout at {folder.parent}: {folder / _INSECURE} is missing"
    found = f"the installed package `djinn` at {folder} is not EleutherAI's: it has no {_INSECURE}"
    try:
        version = importlib.metadata.version("djinn")
    except importlib.metadata.PackageNotFoundError:
        return found
    return f"{found}. Distribution djinn {version} is an unrelated web framework; run pip uninstall djinn first"


def _describe(source: Path) -> InsecureVerifier:
    text = source.read_text(encoding="utf-8")
    patterns: tuple[str, ...] = ()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "SUSPECT_PATTERNS" for target in node.targets
        ):
            patterns = tuple(str(pattern) for pattern, _ in ast.literal_eval(node.value))
    uses_tmp = any(
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith(_SHARED_TMP)
        and not re.search(r"\s|\*", node.value)
        for node in ast.walk(ast.parse(text))
    )
    reads_clock = any(
        isinstance(node, ast.Import) and any(name.name == "time" for name in node.names)
        for node in ast.walk(ast.parse(text))
    )
    return InsecureVerifier(source.stem, patterns, uses_tmp, reads_clock)
