"""The table of attacks and tiers: what a cell says, where it is written, and that the page is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.attack_table import BEGIN, END, cell, cells, main, render, replace_table
from foreshock.jobs.verify.attacks.attack import ISOLATED, Attack
from foreshock.jobs.verify.attacks.harness import ATTACKS, Finding

PAGE = Path(__file__).parents[3] / "docs" / "sandbox.md"
ATTACK = Attack("group", "name", "", claimed=ISOLATED)


def finding(tier: SandboxTier, escaped: str | None = None, forged: bool = False) -> Finding:
    return Finding(ATTACK, tier, escaped, forged, None, None)


@pytest.mark.parametrize(
    ("tier", "found", "text"),
    [
        (SandboxTier.FULL, finding(SandboxTier.FULL), "held"),
        (SandboxTier.FULL, finding(SandboxTier.FULL, "a file"), "**BROKEN CLAIM**: escaped (a file)"),
        (SandboxTier.FULL, finding(SandboxTier.FULL, forged=True), "**BROKEN CLAIM**: forged a pass"),
        (SandboxTier.RLIMITS_ONLY, finding(SandboxTier.RLIMITS_ONLY), "held, not claimed"),
        (SandboxTier.RLIMITS_ONLY, finding(SandboxTier.RLIMITS_ONLY, "x"), "succeeds, not claimed"),
        (SandboxTier.RLIMITS_ONLY, None, "not tried"),
    ],
)
def test_a_cell_tells_claims_from_luck(tier: SandboxTier, found: Finding | None, text: str) -> None:
    assert cell(ATTACK, tier, found) == text


def test_the_table_has_a_row_for_every_attack() -> None:
    table = render(cells({SandboxTier.FULL: {}}))
    assert table.count("| not tried |") == len(ATTACKS)
    assert "full: 0 of 0 attacks held, 0 claims broken" in table


def test_what_an_ordinary_user_finds_is_named_where_it_differs() -> None:
    root = cells({SandboxTier.FULL: {}})
    user = cells({SandboxTier.FULL: {}})
    user["full"][ATTACKS[0].key] = "held"
    table = render(root, user)
    assert "- as root, full: 0 of 0 attacks held" in table
    assert "- as an ordinary user, full: 1 of 1 attacks held" in table
    assert table.count("not tried; as a user: held") == 1


def test_only_what_is_between_the_markers_is_replaced() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert replace_table(text, "new") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    with pytest.raises(ValueError, match="lacks the markers"):
        replace_table("no markers", "new")


def test_the_page_lists_the_catalogue_as_it_is_and_no_broken_claim() -> None:
    _, _, rest = PAGE.read_text().partition(BEGIN)
    table = rest.partition(END)[0]
    listed = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if ": " in line and "| " in line]
    assert listed == [attack.key for attack in ATTACKS]
    assert "BROKEN" not in table


def test_an_unknown_tier_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--tier", "none"])
    assert "'full', 'no-userns', 'rlimits-only'" in capsys.readouterr().err
