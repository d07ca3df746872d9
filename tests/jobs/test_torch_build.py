"""What is said of torch without importing it is what torch says."""

from __future__ import annotations

import sys

import pytest
import torch

from foreshock.jobs import torch_build as asked
from foreshock.jobs.torch_build import gpu_names, torch_build, visible_gpus


def test_the_build_is_torchs_own() -> None:
    build = torch_build()
    assert (build["__version__"], build["cuda"], build["hip"]) == (
        torch.__version__,
        torch.version.cuda,
        torch.version.hip,
    )


@pytest.mark.parametrize("imported", [True, False])
def test_gpus_are_those_that_torch_sees(monkeypatch: pytest.MonkeyPatch, imported: bool) -> None:
    if not imported:
        monkeypatch.delitem(sys.modules, "torch")
        monkeypatch.setattr(asked, "torch_build", lambda: {"cuda": None, "hip": None})
        assert (visible_gpus(), gpu_names(), "torch" in sys.modules) == (0, [], False)
    else:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
        assert (visible_gpus(), gpu_names()) == (2, ["GPU 0", "GPU 1"])


def test_a_build_for_gpus_is_asked_only_where_a_driver_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(asked, "torch_build", lambda: {"cuda": "13.0", "hip": None})
    monkeypatch.setattr(asked.ctypes, "CDLL", absent)
    assert (visible_gpus(), "torch" in sys.modules) == (0, False)
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert visible_gpus() == 1
