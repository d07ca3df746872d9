"""Engines by name, without importing what is not asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from foreshock.jobs.engines.registry import ENGINES, create_engine
from foreshock.jobs.engines.spec import EngineSpec
from foreshock.jobs.engines.specs import OPENAI
from foreshock.testing.engines import EngineSpecContract


class TestSpecs(EngineSpecContract):
    @pytest.fixture(params=sorted(ENGINES.own))
    def spec(self, request: pytest.FixtureRequest) -> EngineSpec:
        return ENGINES.get(request.param)

    @pytest.fixture
    def options(self, spec: EngineSpec) -> dict[str, str]:
        return {"base_url": "http://localhost:8000/v1"} if spec is OPENAI else {}


@pytest.mark.parametrize("name", sorted(ENGINES.own))
def test_every_name_makes_its_engine(name: str) -> None:
    options = {"base_url": "http://localhost:8000/v1"} if name == "openai" else {}
    with create_engine(name, options) as engine:
        assert engine.name == name


def test_unknown_names_and_options_list_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="unknown engine 'tranformers'; valid: fake, openai, transformers, vllm"):
        create_engine("tranformers")
    with pytest.raises(ValueError, match="has no option 'batchsize'; valid: batch_size"):
        create_engine("fake", {"batchsize": 3})


def test_the_fake_engine_needs_no_heavy_library() -> None:
    code = (
        "import sys; from foreshock.jobs.engines.registry import create_engine; create_engine('fake');"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
