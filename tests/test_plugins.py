"""What installed packages add is found by name; whatever is wrong with it is said, and replaces nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foreshock.errors import InputError
from foreshock.jobs.verify.registry import VERIFIERS, verifier_facts
from foreshock.jobs.verify.spec import VerifierOptions, VerifierSpec
from foreshock.plugins import forget_installed

SPEC = """
from foreshock.jobs.verify.spec import VerifierFacts, VerifierSpec

SPEC = VerifierSpec("{name}", "one more", None, lambda _: VerifierFacts("{name}:1", frozenset({{"flag"}})))
OTHER = 3
"""

Install = Callable[[str, str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """install(distribution, entry point, source of its module): a package in a folder on sys.path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def add(distribution: str, entry: str, source: str) -> None:
        (tmp_path / f"{distribution}.py").write_text(source)
        info = tmp_path / f"{distribution}-2.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 2.1\n")
        (info / "entry_points.txt").write_text(f"[foreshock.verifiers]\n{entry}\n")
        forget_installed()

    yield add
    monkeypatch.undo()
    forget_installed()


def test_an_installed_package_adds_an_entry(install: Install) -> None:
    install("own_flag", "flag = own_flag:SPEC", SPEC.format(name="flag"))
    assert VERIFIERS.names() == ["builtin", "djinn", "flag"]
    assert VERIFIERS.origin("flag") == "own_flag 2.1"
    assert verifier_facts("flag").exploit_types == {"flag"}
    with pytest.raises(InputError, match=r"'flag' has no option 'depth' of its own$"):
        verifier_facts("flag", {"depth": 2})


def test_a_broken_package_is_named_to_those_who_ask_for_it_alone(install: Install) -> None:
    install("own_broken", "broken = own_broken:SPEC", "import no_such_module_at_all\n")
    assert "broken" in VERIFIERS.names()
    assert verifier_facts("builtin").identity
    with pytest.raises(InputError, match=r"'broken' of own_broken 2\.1 cannot be imported.*no_such_module_at_all"):
        VERIFIERS.get("broken")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("odd = own_odd:OTHER", r"own_odd:OTHER is a int; needed: a VerifierSpec with the name 'odd'"),
        ("odd = own_odd:NOTHING", r"cannot be imported from own_odd:NOTHING.*has no attribute 'NOTHING'"),
        ("odd = own_odd:SPEC", r"is a VerifierSpec with the name 'even'; needed: .* the name 'odd'"),
    ],
)
def test_an_entry_of_another_kind_is_refused(install: Install, entry: str, said: str) -> None:
    install("own_odd", entry, SPEC.format(name="even"))
    with pytest.raises(InputError, match=said):
        VERIFIERS.get("odd")


def test_a_name_that_is_taken_twice_is_nobodys(install: Install) -> None:
    install("own_builtin", "builtin = own_builtin:SPEC", SPEC.format(name="builtin"))
    with pytest.raises(InputError, match=r"offered by foreshock and own_builtin 2\.1"):
        VERIFIERS.get("builtin")
    assert VERIFIERS.names() == ["builtin", "djinn"]


def test_an_option_that_every_verifier_has_cannot_be_a_verifiers_own() -> None:
    class Own(VerifierOptions):
        timeout_s: float = 1.0

    with pytest.raises(ValueError, match="'timeout_s' is an option that every verifier has"):
        VerifierSpec("own", "", lambda *_: None, lambda _: None, Own)  # type: ignore[arg-type,return-value]


def test_names_cost_no_imports() -> None:
    code = (
        "import sys; from foreshock.jobs.verify.registry import VERIFIERS; VERIFIERS.own;"
        "assert not {'pydantic', 'importlib.metadata', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
