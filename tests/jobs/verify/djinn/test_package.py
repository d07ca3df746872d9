"""Finding djinn: the real one, a checkout, PyPI's unrelated one, none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from foreshock.errors import InputError
from foreshock.jobs.verify.djinn.package import find_package


@pytest.fixture
def clean_path(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A sys.path on which no djinn lies."""
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not Path(entry, "djinn").is_dir()])
    monkeypatch.setattr(sys, "meta_path", [one for one in sys.meta_path if "editable" not in repr(one).lower()])
    return monkeypatch


def test_a_checkout_is_described_without_importing_it(djinn_root: Path) -> None:
    package = find_package(djinn_root)
    assert {"test_case_leak", "filesystem_exposure", "verifier_logic_override"} <= set(package.exploit_types)
    assert package.verifiers["filesystem_exposure"].shared_tmp
    assert not package.verifiers["test_case_leak"].shared_tmp
    assert any("OVERRIDE" in pattern for pattern in package.verifiers["verifier_logic_override"].patterns)
    assert package.verifiers["test_case_leak"].always_intended
    assert not package.verifiers["verifier_logic_override"].always_intended
    assert "djinn" not in sys.modules


def test_the_digest_follows_the_sources(fake_djinn: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(fake_djinn, copy)
    assert find_package(copy).digest == find_package(fake_djinn).digest
    with (copy / "djinn/verifiers/insecure/helpers/calling.py").open("a") as handle:
        handle.write("# changed\n")
    assert find_package(copy).digest != find_package(fake_djinn).digest


def test_an_installed_package_is_found(clean_path: pytest.MonkeyPatch, fake_djinn: Path) -> None:
    clean_path.syspath_prepend(str(fake_djinn))
    assert find_package().root == fake_djinn.resolve()


def test_no_package_names_the_command_that_installs_it(clean_path: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        InputError, match=r"not installed\n.*djinn-framework @ git\+https://github.com/EleutherAI/djinn@"
    ):
        find_package()


def test_the_unrelated_package_of_that_name_is_told_apart(clean_path: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "djinn").mkdir()
    (tmp_path / "djinn" / "__init__.py").write_text("from tornado import web\n")
    info = tmp_path / "djinn-0.0.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: djinn\nVersion: 0.0.3\n")
    clean_path.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"not EleutherAI's.*djinn 0.0.3 is an unrelated web framework") as caught:
        find_package()
    assert "pip install" in str(caught.value)


def test_a_wrong_checkout_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no djinn checkout at {tmp_path}"):
        find_package(tmp_path)
