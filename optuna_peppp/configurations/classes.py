"""Which configurations of precision assignments are one training.

Rules come to one assignment where nothing is demoted, whatever the lower format; where everything
is, whatever the order; and wherever the same groups reach two shares.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.configurations.assignments import Assignment
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.roles import RULED
from optuna_peppp.configurations.sites import Groups


def classes(recipes: Iterable[Recipe], groups: Groups) -> NDArray[np.intp]:
    """Shape (d,), for each recipe the place of the first that is the same training.

    Args:
        recipes: Of d configurations that agree in all else.
        groups: Of the network, on inputs of the training's batch size.
    """
    first: dict[object, int] = {}
    places = [first.setdefault(_training(r, groups), place) for place, r in enumerate(recipes)]
    return np.array(places, dtype=np.intp)


def _training(recipe: Recipe, groups: Groups) -> object:
    """What tells trainings by two recipes apart."""
    rule = recipe.rule
    if rule is None:
        return recipe
    plain, low = replace(recipe, rule=None), rule.of(groups)
    sites = frozenset(range(len(groups.sites)))
    if rule.ends:
        return low, rule.promotion, rule.high, plain, rule.ends
    if low == Assignment(frozenset(), frozenset(), frozenset()):
        formats = dict(recipe.formats)
        formats |= {role: rule.high for role in RULED if role in formats}
        return replace(plain, formats=formats)
    if rule.promotion is None and low == Assignment(sites, sites, frozenset(groups.parameters)):
        return plain
    return low, rule.promotion, rule.high, plain
