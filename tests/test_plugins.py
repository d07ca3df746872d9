"""What installed packages add is found by name; whatever is wrong with it is said, and replaces nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from foreshock.batch.config_file import parse_config
from foreshock.batch.packing.measured import resources
from foreshock.batch.planning.make_plan import engine_options as plan_options
from foreshock.batch.site import resolve_site
from foreshock.errors import InputError
from foreshock.jobs.engines.registry import ENGINES, create_engine
from foreshock.jobs.verify.registry import VERIFIERS, verifier_facts
from foreshock.jobs.verify.spec import VerifierOptions, VerifierSpec
from foreshock.jobs.worker import engine_options as worker_options

SPEC = """
from foreshock.jobs.verify.spec import VerifierFacts, VerifierSpec

SPEC = VerifierSpec("{name}", "one more", None, lambda _: VerifierFacts("{name}:1", frozenset({{"flag"}})))
OTHER = 3
"""

Install = Callable[..., None]


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

    unused: Any = None
    with pytest.raises(ValueError, match="'timeout_s' is an option that every verifier has"):
        VerifierSpec("own", "", unused, unused, Own)


ENGINE = """
from foreshock.jobs.engines.fake import FakeEngine
from foreshock.jobs.engines.spec import EngineSpec


class Echo(FakeEngine):
    name = "echo"

    def __init__(self, rows: int = 4) -> None:
        super().__init__(rows)


SPEC = EngineSpec(
    "echo", "one more", lambda: Echo, on_device=False, batch_option="rows", default_batch=4, halved=("rows",),
    one_without_gpu=True, load_s=7.0,
)
"""


def test_an_installed_engine_is_planned_with_by_its_facts_alone(install: Install) -> None:
    install("own_echo", "echo = own_echo:SPEC", ENGINE, "foreshock.engines")
    data = {"checkpoints": {"dir": "."}, "prefill": {"levels": [0]}, "engine": {"name": "echo", "batch_size": 9}}
    config = parse_config(data)
    site = resolve_site(config)
    assert site.workers == 1
    assert resources(site).cost.load_s == 7.0
    assert plan_options(config.engine) == {"rows": 9}
    assert worker_options({"rows": 9}, 1, ENGINES.get("echo").halved) == {"rows": 4}
    with create_engine("echo", {"rows": 9}) as engine:
        assert (engine.name, engine.batch_rows) == ("echo", 9)
    with pytest.raises(InputError, match="engine 'echo' has no option 'cols'; valid: rows"):
        create_engine("echo", {"cols": 9})
    with pytest.raises(InputError, match="unknown engine 'ecko'; valid: auto, echo, fake, openai, transformers, vllm"):
        parse_config({**data, "engine": {"name": "ecko"}})


def test_names_cost_no_imports() -> None:
    code = (
        "import sys; from foreshock.jobs.verify.registry import VERIFIERS; VERIFIERS.own;"
        "assert not {'pydantic', 'importlib.metadata', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
