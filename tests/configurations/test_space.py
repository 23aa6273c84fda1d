from __future__ import annotations

import enum
import itertools
import pickle
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution

from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.precision import FORMATS_A, FORMATS_B, Precision
from optuna_peppp.configurations.space import ConfigurationSpace, Value

values = st.one_of(
    st.integers(-1000, 1000), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
choices = st.dictionaries(
    st.text(min_size=1).filter(lambda name: not name.startswith("format_")),
    st.lists(values, min_size=1, max_size=4, unique=True),
    min_size=1,
    max_size=3,
)


class Names(enum.StrEnum):
    SGD = "sgd"


class Numbers(enum.IntEnum):
    THREE = 3


def test_the_papers_space_is_table_3_by_table_4_with_table_4_fastest() -> None:
    space = ConfigurationSpace.paper()
    assert len(space) == 99
    expected = [Precision(a, b) for a in FORMATS_A for b in FORMATS_B]
    assert [space.precision(j) for j in range(99)] == expected
    assert space.params(0) == {"format_a": "1-3-1", "format_b": "1-6-7"}
    assert space.params(1) == {"format_a": "1-3-1", "format_b": "1-6-9"}
    assert space.params(98) == {"format_a": "1-5-3", "format_b": "1-8-11"}
    assert space.names == ("format_a", "format_b")


@given(choices)
def test_index_and_params_are_inverse_in_the_order_of_the_product(
    tuned: dict[str, list[Value]],
) -> None:
    space = ConfigurationSpace(tuned)
    product = [dict(zip(tuned, row, strict=True)) for row in itertools.product(*tuned.values())]
    assert len(space) == len(product)
    assert [space.params(j) for j in range(len(space))] == product
    assert [space.index(params) for params in product] == list(range(len(space)))
    for params in product:
        assert list(params) == list(space.params(space.index(params)))


@given(choices)
def test_equality_hash_repr_and_pickle(tuned: dict[str, list[Value]]) -> None:
    space = ConfigurationSpace(tuned)
    assert space == ConfigurationSpace(space.choices)
    assert hash(space) == hash(ConfigurationSpace(space.choices))
    assert pickle.loads(pickle.dumps(space)) == space
    assert eval(repr(space)) == space


def test_the_order_of_names_and_values_matters() -> None:
    space = ConfigurationSpace({"a": [1, 2], "b": [3]})
    assert space != ConfigurationSpace({"b": [3], "a": [1, 2]})
    assert space != ConfigurationSpace({"a": [2, 1], "b": [3]})
    assert space != {"a": [1, 2], "b": [3]}


def test_what_it_hands_out_does_not_change_it() -> None:
    space = ConfigurationSpace({"a": [1, 2]})
    space.choices.clear()
    space.params(0).clear()
    assert space.choices == {"a": (1, 2)}
    assert space.params(0) == {"a": 1}


def test_params_may_hold_foreign_names_and_come_in_any_order() -> None:
    space = ConfigurationSpace({"a": [1, 2], "b": ["x", "y"]})
    assert space.index({"momentum": 0.9, "b": "y", "a": 2}) == 3


anything = st.one_of(values, st.none(), st.booleans(), st.lists(st.integers(), max_size=2))


@given(choices, st.data())
def test_matching_are_those_that_agree_in_every_value_of_the_space(
    tuned: dict[str, list[Value]], data: st.DataObject
) -> None:
    space = ConfigurationSpace(tuned)
    given = {
        name: data.draw(st.one_of(st.sampled_from(tuned[name]), anything))
        for name in data.draw(st.lists(st.sampled_from(list(tuned)), unique=True))
    }
    given |= data.draw(st.dictionaries(st.just("format_c"), anything))
    counting = {
        name: value
        for name, value in given.items()
        if name in tuned and any(value == choice for choice in tuned[name])
    }
    expected = [
        index
        for index in range(len(space))
        if all(space.params(index)[name] == value for name, value in counting.items())
    ]
    assert space.matching(given).tolist() == expected


def test_matching_by_hand() -> None:
    space = ConfigurationSpace({"a": [1, 2], "b": ["x", "y", "z"]})
    assert space.matching({}).tolist() == [0, 1, 2, 3, 4, 5]
    assert space.matching({"b": "y"}).tolist() == [1, 4]
    assert space.matching({"a": 2}).tolist() == [3, 4, 5]
    assert space.matching({"b": "z", "a": 1}).tolist() == [2]
    assert space.matching({"a": 3, "b": ["y"], "c": 1}).tolist() == [0, 1, 2, 3, 4, 5]
    assert space.matching({}).dtype == np.intp


def test_formats_are_kept_in_one_spelling() -> None:
    space = ConfigurationSpace({"format_a": [FloatFormat(4, 3), " 1-3-1"], "format_b": ["1-6-7"]})
    assert space.choices == {"format_a": ("1-4-3", "1-3-1"), "format_b": ("1-6-7",)}
    assert space.precision(1) == Precision.parse("1-3-1", "1-6-7")


def test_numpy_values_become_builtins() -> None:
    space = ConfigurationSpace({"learning_rate": np.array([0.1, 0.01]), "name": np.array(["x"])})
    kinds = {name: {type(value) for value in kept} for name, kept in space.choices.items()}
    assert kinds == {"learning_rate": {float}, "name": {str}}
    assert space.index({"learning_rate": np.float64(0.01), "name": "x"}) == 1


def test_distributions_are_optunas() -> None:
    space = ConfigurationSpace({"format_a": ["1-4-3", "1-3-1"], "learning_rate": [0.1, 0.01]})
    assert space.distributions() == {
        "format_a": CategoricalDistribution(("1-4-3", "1-3-1")),
        "learning_rate": CategoricalDistribution((0.1, 0.01)),
    }


def test_suggest_asks_for_every_name() -> None:
    space = ConfigurationSpace({"format_a": ["1-4-3", "1-3-1"], "learning_rate": [0.1, 0.01]})
    params = {"format_a": "1-3-1", "learning_rate": 0.1}
    trial = optuna.trial.FixedTrial({**params, "other": 1})
    assert space.suggest(trial) == params
    assert trial.distributions == space.distributions()


@pytest.mark.parametrize(
    ("tuned", "problem"),
    [
        ({}, "choices must hold at least one name; got none"),
        ({"a": []}, r"choices\['a'\] must hold at least one value; got none"),
        ({"a": [1, 2, 1]}, r"choices\['a'\] must not repeat a value"),
        ({"a": [1, 1.0]}, "must not repeat a value"),
        ({"format_a": ["1-4-3", " 1-4-3"]}, "must not repeat a value"),
        ({"a": [True, 1]}, r"which 1, 1.0 and True count; got \(True, 1\)"),
        ({"a": [np.int64(1), 1.0]}, "must not repeat a value"),
        ({"a": [*range(20), 3]}, r"got \(0, 1, 2, 3, 4, 5, 6, 7, \.\.\.\)$"),
        (
            {"a": [None]},
            r"choices\['a'\] must hold strings, ints, floats and truth values; "
            "got None of type NoneType",
        ),
        ({"a": [1j]}, "got 1j of type complex"),
        ({"a": [np.datetime64("2020")]}, "of type datetime64"),
        ({"a": [np.float64("nan")]}, "must hold finite numbers"),
        ({"a": [np.float32("inf")]}, "must hold finite numbers"),
        ({"a": 7}, r"choices\['a'\] must be a list of values; got 7"),
        ({"a": [(1, 2)]}, r"got \(1, 2\) of type tuple"),
        ({"a": [FloatFormat(4, 3)]}, "of type FloatFormat"),
        ({"a": [float("nan")]}, "must hold finite numbers; got nan"),
        ({"a": [float("inf")]}, "must hold finite numbers; got inf"),
        ({"a": "sgd"}, r"choices\['a'\] must be a list of values; got 'sgd'"),
        ({"format_a": "1-4-3"}, "must be a list of values; got '1-4-3'"),
        ({"format_b": ["1-4"]}, "sign-exponent-mantissa .* got '1-4'"),
        ({"format_b": ["1-9-3"]}, "exponent must be between 2 and 8"),
    ],
)
def test_bad_choices_are_refused(tuned: Mapping[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ConfigurationSpace(tuned)


def test_bad_params_are_refused() -> None:
    space = ConfigurationSpace({"a": [1, 2], "b": ["x"]})
    with pytest.raises(ValueError, match="every name of the space, a, b; 'b' is missing"):
        space.index({"a": 1})
    bad: list[object] = [3, "1", None, [1], float("nan")]
    for value in bad:
        with pytest.raises(ValueError, match=r"params\['a'\] must be one of 1, 2; got") as caught:
            space.index({"a": value, "b": "x"})
        assert repr(value) in str(caught.value)


def test_bad_indices_are_refused() -> None:
    space = ConfigurationSpace({"a": [1, 2]})
    for index in (-1, 2):
        with pytest.raises(IndexError, match=f"between 0 and 1; got {index}"):
            space.params(index)


def test_a_space_without_formats_has_no_precision() -> None:
    with pytest.raises(ValueError, match="it tunes format_a, x"):
        ConfigurationSpace({"format_a": ["1-4-3"], "x": [1]}).precision(0)
    with pytest.raises(ValueError, match="must tune format_a and format_b"):
        ConfigurationSpace({"x": [1]}).precision(0)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float64(0.25), 0.25),
        (np.float32(0.25), 0.25),
        (np.longdouble(0.25), 0.25),
        (np.int64(3), 3),
        (np.uint8(3), 3),
        (np.str_("sgd"), "sgd"),
        (np.bool_(True), True),
        (True, True),
        (False, False),
        (Names.SGD, "sgd"),
        (Numbers.THREE, 3),
    ],
)
def test_values_become_builtins(given: Any, kept: Value) -> None:
    space = ConfigurationSpace({"a": [given, "other"]})
    value = space.choices["a"][0]
    assert (type(value), value) == (type(kept), kept)
    assert type(space.params(0)["a"]) is type(kept)
    for params in ({"a": given}, {"a": kept}):
        assert space.index(params) == 0
        assert space.matching(params).tolist() == [0]


def test_arrays_are_lists_of_values() -> None:
    space = ConfigurationSpace({"rate": np.array([0.1, 0.01]), "batch": np.arange(3)})
    assert space.choices == {"rate": (0.1, 0.01), "batch": (0, 1, 2)}
    assert space == ConfigurationSpace({"rate": [0.1, 0.01], "batch": range(3)})


def test_truth_values_are_told_apart_and_survive_optuna() -> None:
    space = ConfigurationSpace({"nesterov": [True, False], "rate": [0.1, 0.01]})
    study = optuna.create_study()
    study.enqueue_trial({"nesterov": False, "rate": 0.1})
    params = space.suggest(study.ask())
    assert params == {"nesterov": False, "rate": 0.1}
    assert params["nesterov"] is False
    assert space.index(params) == 2


@pytest.mark.parametrize(
    "fixed",
    [{"b": np.int64(64)}, {"b": np.float32(64)}, {"a": np.float64(0.01), "b": np.uint8(64)}],
)
def test_numpys_numbers_match(fixed: Mapping[str, object]) -> None:
    space = ConfigurationSpace({"a": [0.01, 0.1], "b": [32, 64]})
    assert space.matching(fixed).tolist() == ([1] if "a" in fixed else [1, 3])


@pytest.mark.parametrize("value", [3, None, [64], (64, [32]), {"b": 64}, "64"])
def test_what_is_no_choice_does_not_count(value: object) -> None:
    space = ConfigurationSpace({"a": [0.01, 0.1], "b": [32, 64]})
    assert space.matching({"b": value}).tolist() == [0, 1, 2, 3]


def names_of(count: int, values: Iterable[Value]) -> dict[str, Iterable[Value]]:
    return {f"name{number}": values for number in range(count)}


@pytest.mark.parametrize(
    ("tuned", "problem"),
    [
        (names_of(20, [1, 2]), "20 names make 1,048,576"),
        (names_of(64, [1, 2]), r"64 names make about 10\^19"),
        (names_of(2000, range(10)), r"2000 names make about 10\^2000"),
        ({"a": range(1001), "b": range(1000)}, "2 names make 1,001,000"),
    ],
)
def test_spaces_that_are_too_large_are_refused(tuned: Any, problem: str) -> None:
    with pytest.raises(
        ValueError, match=rf"at most 1,000,000 configurations; {problem}. Tune fewer names, or"
    ):
        ConfigurationSpace(tuned)


@pytest.mark.parametrize("endless", [range(10**12), itertools.count()])
def test_choices_without_an_end_are_refused(endless: Iterable[int]) -> None:
    with pytest.raises(ValueError, match=r"choices\['a'\] must hold at most 1,000,000 values"):
        ConfigurationSpace({"a": endless})


@pytest.mark.parametrize("tuned", [names_of(19, [1, 2]), names_of(6, range(10))])
def test_the_largest_spaces(tuned: Any) -> None:
    space = ConfigurationSpace(tuned)
    last = space.params(len(space) - 1)
    assert space.index(last) == len(space) - 1
    assert space.matching(last).tolist() == [len(space) - 1]


def test_many_are_looked_up_at_once_as_one_by_one() -> None:
    space = ConfigurationSpace({"format_a": ["1-3-1", "1-4-3"], "rate": [0.1, 1, 10]})
    every = [space.params(index) for index in range(len(space))]
    assert space.indices(every).tolist() == list(range(len(space)))
    strange: list[dict[str, object]] = [
        {**every[4], "further": None},
        {"format_a": "1-3-1"},
        {"format_a": None, "rate": 1},
        {"format_a": "1-3-1", "rate": 0.5},
        {},
        {"format_a": "1-4-3", "rate": True},
    ]
    assert space.indices(strange).tolist() == [4, -1, -1, -1, -1, 4]
    # What cannot be looked up is none of the choices.
    assert space.indices([*strange, {"format_a": [1], "rate": 1}])[-1] == -1
    assert space.indices([]).tolist() == []
