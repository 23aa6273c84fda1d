from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optuna_peppp.configurations.assignments import Assignment, Rule, demoted, share
from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.sites import Groups, Parameter, Site

HIGH = FloatFormat(6, 9)
SIZES = (106, 176, 42)

# Linear(4, 5), ReLU, Linear(5, 3) on a batch of 7.
GROUPS = Groups(
    (
        Site(("", 0), 28, 0),
        Site(("0", 0), 35, 1, is_product=True, reads=frozenset({0})),
        Site(("1", 0), 35, 1, reads=frozenset({1})),
        Site(("2", 0), 21, 2, is_product=True, reads=frozenset({2})),
    ),
    {("", 0): 0, ("0", 0): 1, ("1", 0): 2, ("2", 0): 3},
    {
        "0.weight": Parameter(20, 0, frozenset({1})),
        "0.bias": Parameter(5, 0, frozenset({1})),
        "2.weight": Parameter(15, 1, frozenset({3})),
        "2.bias": Parameter(3, 1, frozenset({3})),
    },
)


def test_sizes_by_hand() -> None:
    assert GROUPS.sizes == SIZES


@pytest.mark.parametrize(
    ("demotion", "groups", "reached", "ratio"),
    [
        (0.0, set(), 0, 0),
        (0.1, {1}, 0.5432, 158 / 324),
        (0.5, {1}, 0.5432, 158 / 324),
        (0.6, {1, 0}, 0.8704, 239 / 324),
        (0.9, {0, 1, 2}, 1, 281 / 324),
        (1.0, {0, 1, 2}, 1, 281 / 324),
    ],
)
def test_demotion_by_hand(demotion: float, groups: set[int], reached: float, ratio: float) -> None:
    assert demoted(SIZES, demotion) == groups
    assert share(SIZES, demoted(SIZES, demotion)) == pytest.approx(reached, abs=5e-5)
    bits = Rule(HIGH, demotion).of(GROUPS).bits(GROUPS, 8, 8, 16, 16)
    assert 2 * (1 - bits / (16 * 324)) == pytest.approx(ratio)


@pytest.mark.parametrize(("demotion", "expected"), [(0.0, 648), (0.5, 490), (1.0, 367)])
def test_bytes_by_hand(demotion: float, expected: int) -> None:
    assert Rule(HIGH, demotion).of(GROUPS).bits(GROUPS, 8, 8, 16, 16) == 8 * expected


def test_what_one_group_holds() -> None:
    assert Rule(HIGH, 0.5).of(GROUPS) == Assignment(
        frozenset({1, 2}), frozenset({1, 2}), frozenset({"2.weight", "2.bias"})
    )


def test_the_rule_of_operators_spares_both_ends() -> None:
    # Of three products, only the middle one's weights, input and gradient are neither.
    sites = [Site(("", 0), 9, 0)]
    parameters = {}
    for n in (1, 2, 3):
        sites.append(Site((str(2 * n), 0), 9, n, is_product=True, reads=frozenset({2 * n - 2})))
        sites.append(Site((str(2 * n + 1), 0), 9, n, reads=frozenset({2 * n - 1})))
        parameters[f"{n}"] = Parameter(4, n - 1, frozenset({2 * n - 1}))
    calls = {site.call: number for number, site in enumerate(sites)}
    low = Rule(HIGH, order="operator").of(Groups(tuple(sites), calls, parameters))
    assert low == Assignment(frozenset({2}), frozenset({3}), frozenset({"2"}))


def test_orders_by_hand() -> None:
    sizes = (5, 9, 5, 1)
    assert demoted(sizes, 0.46) == {1, 0}
    assert demoted(sizes, 0.46, "increasing") == {3, 0, 2}
    assert {demoted(sizes, 0.01, f"random-{seed}") for seed in range(20)} == {
        frozenset({group}) for group in range(4)
    }


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=12),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from(["decreasing", "increasing", "random-3"]),
)
def test_demoted_groups_are_nested_and_no_more_than_needed(
    sizes: list[int], one: float, other: float, order: str
) -> None:
    low, high = sorted((one, other))
    fewer, more = demoted(sizes, low, order), demoted(sizes, high, order)
    assert fewer <= more
    assert share(sizes, more) >= high - 1e-9
    if more:
        # Without the group that was taken last, the share is not reached.
        assert min(share(sizes, more - {group}) for group in more) < high


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8, unique=True), st.randoms())
def test_numbering_groups_otherwise_changes_nothing(sizes: list[int], random: Any) -> None:
    places = list(range(len(sizes)))
    random.shuffle(places)
    moved = [sizes[place] for place in places]
    for order in ("decreasing", "increasing"):
        expected = demoted(sizes, 0.5, order)
        assert {places[group] for group in demoted(moved, 0.5, order)} == expected


def test_all_orders_agree_at_both_ends() -> None:
    for order in ("decreasing", "increasing", "random-0", "random-7"):
        assert demoted(SIZES, 0, order) == set()
        assert demoted(SIZES, 1, order) == {0, 1, 2}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"demotion": -0.1}, "demotion must be between 0 and 1; got -0.1"),
        ({"demotion": 1.5}, "demotion must be between 0 and 1"),
        ({"demotion": float("nan")}, "demotion must be between 0 and 1"),
        ({"promotion": 0}, "promotion must be a share above 0"),
        ({"promotion": float("inf")}, "promotion must be a share above 0"),
        (
            {"order": "size"},
            "order must be one of decreasing, increasing, saved, operator, random-SEED",
        ),
        ({"order": "random"}, "such as random-0, or .* got 'random'"),
        ({"order": None}, "order must be one of"),
    ],
)
def test_bad_rules_are_refused(arguments: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Rule(HIGH, **arguments)


def test_what_saves_most_first() -> None:
    assert demoted((10, 30, 20), 0.4, "saved", (5, 5, 9)) == {2, 0}
    with pytest.raises(ValueError, match="order 'saved' needs to know what memory keeps"):
        demoted((10, 30, 20), 0.4, "saved")


def test_groups_by_their_numbers() -> None:
    assert demoted((10, 30, 20), 0.5, "0-2-1") == {0, 2}
    assert demoted((10, 30, 20), 0.51, "0-2-1") == {0, 2, 1}
    for order in ("0-1", "0-1-1", "1-2-3", "0-1-2-3"):
        with pytest.raises(ValueError, match="order must name every group from 0 to 2 once"):
            demoted((10, 30, 20), 0.5, order)
