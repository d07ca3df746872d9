"""Every attack of the catalogue, in the tiers that claim to withstand it."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.attacks.harness import ATTACKS, Attack, Lab, attack_lab
from foreshock.jobs.verify.sandbox.tiers import probe_tier

pytestmark = pytest.mark.early

ON_THE_JUDGE = frozenset({"values", "interpreter", "result channel"})
"""Groups that no layer of a tier meets: the strongest and the weakest tier stand for all. `attack_table` tries each."""

CLAIMS = [
    pytest.param(tier, attack, id=f"{tier.value}-{attack.key}")
    for tier in SandboxTier
    for attack in ATTACKS
    if tier in attack.claimed and tier in attack.run_on
    if attack.group not in ON_THE_JUDGE or tier is not SandboxTier.NO_USERNS
]


@functools.lru_cache
def _unavailable(tier: SandboxTier) -> str | None:
    return probe_tier(tier).reason


@pytest.fixture(scope="module")
def labs() -> Iterator[dict[SandboxTier, Lab]]:
    """One laboratory a tier, opened when first used."""
    opened: dict[SandboxTier, Lab] = {}
    contexts = []

    class Labs(dict[SandboxTier, Lab]):
        def __missing__(self, tier: SandboxTier) -> Lab:
            context = attack_lab(tier)
            contexts.append(context)
            opened[tier] = self[tier] = context.__enter__()
            return opened[tier]

    yield Labs()
    for context in contexts:
        context.__exit__(None, None, None)


@pytest.mark.parametrize(("tier", "attack"), CLAIMS)
def test_the_attack_is_withstood(labs: dict[SandboxTier, Lab], tier: SandboxTier, attack: Attack) -> None:
    reason = _unavailable(tier)
    if reason is not None:
        pytest.skip(f"tier {tier.value} does not work on this machine: {reason}")
    finding = labs[tier].run(attack)
    assert finding.held, finding.text


def test_the_catalogue_is_large_its_names_are_unique_and_its_attacks_run() -> None:
    """One that Python does not compile would be withstood by everything."""
    assert len({attack.key for attack in ATTACKS}) == len(ATTACKS) >= 240
    for attack in ATTACKS:
        if attack.group != "interpreter":  # some of which mean not to compile
            compile(attack.code, attack.key, "exec")


@pytest.mark.parametrize(
    "name",
    ["files: read a file of the user", "network: TCP connection to a local port", "processes: signal another process"],
)
def test_the_same_attacks_succeed_where_nothing_holds_them(labs: dict[SandboxTier, Lab], name: str) -> None:
    """An attack that fails everywhere would prove nothing."""
    (attack,) = [attack for attack in ATTACKS if attack.key == name]
    assert labs[SandboxTier.RLIMITS_ONLY].run(attack).escaped
