"""The recipe's digest: equal recipes are the same work, anything that changes the weights is other work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foreshock.batch.demo.corpus import EXPLOIT_SHARES, Phase
from foreshock.batch.demo.recipe import Recipe
from foreshock.batch.demo.schedule import BATCH, Schedule
from foreshock.jobs.verify.builtin.problems import DEMO_TYPES


def test_equal_recipes_have_equal_digests() -> None:
    assert Recipe(seed=2).sha256() == Recipe(seed=2).sha256()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"base_items": 10},
        {"base": Schedule(1, 1e-3, 1, 1.0)},
        {"fine_tune": Schedule(64, 1e-4, 1, 1.0)},
        {"saves": (0, 64)},
        {"threads": 1},
    ],
    ids=str,
)
def test_whatever_changes_the_weights_changes_the_digest(change: dict) -> None:
    assert replace(Recipe(), **change).sha256() != Recipe().sha256()


def test_fine_tuning_sees_each_example_once_and_both_runs_are_alike() -> None:
    recipe = Recipe()
    assert recipe.n_items(Phase.EXPLOIT) == recipe.n_items(Phase.CONTROL) == recipe.fine_tune.steps * BATCH
    assert recipe.schedule(Phase.EXPLOIT) == recipe.schedule(Phase.CONTROL)
    assert recipe.n_steps() == recipe.base.steps + 3 * recipe.fine_tune.steps


def test_the_last_step_is_saved_and_every_demo_type_has_a_share() -> None:
    assert Recipe().saves[-1] == Recipe().fine_tune.steps
    assert set(EXPLOIT_SHARES) == set(DEMO_TYPES)
    assert len(set(EXPLOIT_SHARES.values())) == len(EXPLOIT_SHARES)
