from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest

from optuna_peppp import Cost, MetaModel, PEPPPSampler, Prediction, load_corpus, predict
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.report.page import as_page
from optuna_peppp.report.text import as_text, plain
from optuna_peppp.visualization import plot_frontier

SPACE = ConfigurationSpace({"configuration": range(4)})
SECONDS = [0.0004, 0.0021, 0.0009, 0.0013]


def test_numbers_are_bytes_of_memory() -> None:
    cost = Cost.of([1, 2, 3, 4], SPACE)
    assert (cost.name, cost.unit) == ("memory", "B")
    assert (cost.parse("3kB"), cost.parse(None)) == (3000, math.inf)
    assert cost.format(2_500_000) == "2.5 MB"


def test_values_are_a_copy_that_cannot_be_written() -> None:
    given = np.arange(1, 5)
    cost = Cost.of(given, SPACE)
    given[0] = 99
    assert cost.array.tolist() == [1, 2, 3, 4]
    assert cost.array.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        cost.array[0] = 1


def test_numpy_takes_a_cost() -> None:
    assert np.asarray(Cost(SECONDS, "latency", "s")).tolist() == SECONDS
    assert (np.array(Cost(np.array(SECONDS))) * 2).tolist() == [2 * value for value in SECONDS]


@pytest.mark.parametrize(
    ("memory", "problem"),
    [
        (
            np.ones(7),
            r"^memory must have shape \(4,\), one entry per configuration of meta\.space; "
            r"got \(7,\)$",
        ),
        (np.ones((1, 4)), r"got \(1, 4\)"),
        (3.0, r"got \(\)"),
        ("many", "memory must be numbers, the bytes of every configuration"),
        ([1, 1, math.nan, 1], r"memory\[2\], the memory of {'configuration': 2}, is nan"),
        ([1, 1, 1, 0], r"positive and finite; memory\[3\].* is 0\.0"),
        ([-1, 1, 1, 1], r"memory\[0\].* is -1\.0"),
        ([1, 1, 1, math.inf], r"memory\[3\].* is inf"),
        (Cost([1, 0, 1, 1], "latency", "s"), r"memory\[1\], the latency of .* is 0\.0"),
    ],
)
def test_bad_values_are_refused(memory: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Cost.of(memory, SPACE)


@pytest.mark.parametrize(
    ("name", "unit", "problem"),
    [
        ("", "s", "name must be a text"),
        (" ", "s", "name must be a text"),
        (3, "s", "name must be a text"),
        ("latency", None, "unit must be a text"),
    ],
)
def test_bad_names_are_refused(name: Any, unit: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Cost(SECONDS, name, unit)


@pytest.fixture(scope="module")
def meta() -> MetaModel:
    return MetaModel.fit(load_corpus("plain3-cifar100"), rank=3)


@pytest.fixture(scope="module")
def latency(meta: MetaModel) -> Cost:
    return Cost(np.linspace(0.4, 2.4, len(meta.space)), "latency <p95>", "ms")


def tuned(meta: MetaModel, latency: Cost, second: float = 1.0) -> optuna.Study:
    """Two trials under a cap of 1.5 ms, the latency, times ``second``, the other objective."""
    sampler = PEPPPSampler(meta, latency, measurement_cap="1500us", seed=0)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        index = meta.space.index(meta.space.suggest(trial))
        return 0.5 - index / 1000, float(latency.array[index]) * second

    study.optimize(objective, n_trials=2)
    return study


def test_a_latency_is_spoken_of_by_its_name_and_unit(meta: MetaModel, latency: Cost) -> None:
    study = tuned(meta, latency)
    assert max(trial.values[1] for trial in study.trials) <= 1.5
    prediction = predict(study, meta, latency)
    assert prediction.recommend("1.5ms") == prediction.recommend(1.5)
    assert prediction.recommend("0.0015s").memory <= 1.5
    text = plain(as_text(prediction, prediction.recommend("1.5ms"), "1.5ms"))
    assert ", latency <p95> 1." in text
    assert " ms, error 0." in text
    with pytest.raises(
        ValueError, match=r"at least 0\.4 ms \(400 us\), the smallest latency <p95>"
    ):
        prediction.recommend("0.3ms")


def test_pictures_name_the_latency(meta: MetaModel, latency: Cost) -> None:
    study = tuned(meta, latency)
    figure = plot_frontier(study, meta, latency, memory_cap="1.5ms")
    assert figure.layout.title.text == "Error-Latency &lt;P95&gt; Frontier Plot"
    assert figure.layout.xaxis.title.text == "Latency &lt;p95&gt; (ms)"
    assert figure.layout.annotations[0].text == "cap 1.5 ms"
    assert "<br>latency &lt;p95&gt;: 400 us" in figure.data[3].text[0]
    page = as_page(study, meta, predict(study, meta, latency), title="t", settings={})
    assert "<th>latency &lt;p95&gt;</th>" in page
    assert "latency &lt;p95&gt; is scaled to [0, 1]" in page


def test_units_with_prefixes_number_the_axis(meta: MetaModel) -> None:
    count = Cost(np.linspace(1e6, 9e6, len(meta.space)), "parameters", "")
    layout = plot_frontier(optuna.create_study(), meta, count, memory_cap="2M").layout
    assert (layout.xaxis.title.text, layout.xaxis.tickformat) == ("Parameters", "~s")
    assert layout.annotations[0].text == "cap 2 M"


def test_another_latency_than_the_one_given_is_told_of(meta: MetaModel, latency: Cost) -> None:
    with pytest.warns(UserWarning, match="the latency <p95> given for its configuration"):
        tuned(meta, latency, second=2.0)


def test_a_prediction_of_numbers_is_about_memory(meta: MetaModel) -> None:
    prediction = Prediction.from_measurements(meta, np.full(len(meta.space), 2e6), [], [])
    assert prediction.cost.name == "memory"
    assert prediction.memory.tolist() == [2e6] * len(meta.space)


def test_caps_of_measurements_heed_the_most_it_may_come_to(meta: MetaModel) -> None:
    memory = np.full(len(meta.space), 2e6)
    most = memory.copy()
    most[1:] = 4e6
    cost = Cost(memory, most=most)
    study = optuna.create_study(
        directions=["minimize"] * 2,
        sampler=PEPPPSampler(meta, cost, measurement_cap="3MB", seed=0),
    )
    assert meta.space.index(meta.space.suggest(study.ask())) == 0
    with pytest.raises(ValueError, match=r"the smallest needs 2 MB; got '1MB'"):
        PEPPPSampler(meta, cost, measurement_cap="1MB")
    with pytest.raises(ValueError, match="nowhere be less than the memory itself"):
        PEPPPSampler(meta, Cost(memory, most=most / 4))
