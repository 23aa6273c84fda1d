from __future__ import annotations

from dataclasses import replace

from optuna_peppp.configurations.classes import classes
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.sites import Groups, Parameter, Site

# Three groups of 54, 36 and 10 hundredths of all numbers.
GROUPS = Groups(
    tuple(Site((str(n), 0), size, n, is_product=n > 0) for n, size in enumerate((40, 30, 10))),
    {(str(n), 0): n for n in range(3)},
    {"0": Parameter(14, 0), "1": Parameter(6, 1)},
)


def recipe(
    demotion: float, low: str = "1-3-1", order: str = "decreasing", promotion: float | None = None
) -> Recipe:
    return Recipe.assigned(
        low, "1-4-3", "1-6-9", demotion=demotion, order=order, promotion=promotion
    )


def test_where_nothing_is_demoted_the_lower_format_does_not_matter() -> None:
    recipes = [
        recipe(0.0),
        recipe(0.0, "1-3-2"),
        recipe(0.0, order="increasing", promotion=0.01),
        Recipe.paper("1-4-3", "1-6-9"),
        Recipe.paper("1-4-3", "1-6-7"),
    ]
    assert classes(recipes, GROUPS).tolist() == [0, 0, 0, 0, 4]


def test_where_everything_is_demoted_the_order_does_not_matter() -> None:
    recipes = [
        recipe(1.0),
        recipe(1.0, order="random-3"),
        recipe(1.0, promotion=0.01),  # which may lift some again
        Recipe.paper("1-3-1", "1-6-9"),
        recipe(1.0, "1-3-2"),
    ]
    assert classes(recipes, GROUPS).tolist() == [0, 0, 2, 0, 4]


def test_shares_that_the_same_groups_reach_are_one() -> None:
    recipes = [recipe(0.1), recipe(0.5), recipe(0.6), recipe(0.9), recipe(0.95)]
    assert classes(recipes, GROUPS).tolist() == [0, 0, 2, 2, 4]
    other = [recipe(0.1, order="increasing"), recipe(0.1)]
    assert classes(other, GROUPS).tolist() == [0, 1]


def test_what_differs_besides_tells_apart() -> None:
    stochastic = replace(recipe(0.5), stochastic=frozenset({"activations"}))
    assert classes([recipe(0.5), stochastic, recipe(0.5)], GROUPS).tolist() == [0, 1, 0]
