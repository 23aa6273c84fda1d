from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray

from optuna_peppp import (
    ConfigurationSpace,
    MetaModel,
    PEPPPSampler,
    load_corpus,
    parse_format,
    predict,
)
from optuna_peppp.meta import cold_start
from optuna_peppp.meta.cold_start import cold_prior


def small() -> ConfigurationSpace:
    """24 configurations: as many as the loadings have dimensions to spare."""
    return ConfigurationSpace(
        {
            "format_a": ["1-3-1", "1-4-1", "1-4-3", "1-5-2"],
            "learning_rate": [0.1, 0.01],
            "optimizer": ["adam", "sgd", "lion"],
        }
    )


def kernel(space: ConfigurationSpace, shares: dict[str, float]) -> NDArray[np.float64]:
    """The covariance of the module's docstring, entry by entry."""
    covariance = np.empty((len(space), len(space)))
    for i in range(len(space)):
        for j in range(len(space)):
            value = cold_start._SPREAD**2
            for name, share in shares.items():
                x, y = space.params(i)[name], space.params(j)[name]
                if name == "format_a":
                    (e, m), (f, n) = ([int(bits) for bits in str(v).split("-")[1:]] for v in (x, y))
                    squared = float((e - f) ** 2 + (m - n) ** 2)
                elif name == "learning_rate":
                    squared = (cold_start._LENGTH * math.log10(float(x) / float(y))) ** 2
                else:
                    squared = 2 * cold_start._LENGTH**2 * (x != y)
                value *= 1 - share + share * math.exp(-squared / (2 * cold_start._LENGTH**2))
            covariance[i, j] = value
    return covariance


def test_loadings_are_those_of_the_kernel() -> None:
    space = small()
    expected = [
        kernel(
            space,
            {
                name: cold_start._MUCH if name in much else cold_start._LITTLE
                for name in space.names
            },
        )
        for much in (
            ("format_a", "learning_rate", "optimizer"),
            ("format_a", "learning_rate"),
            ("format_a", "optimizer"),
            ("learning_rate", "optimizer"),
            ("format_a",),
            ("learning_rate",),
            ("optimizer",),
        )
    ]
    found = [model.loadings @ model.loadings.T for model in cold_prior(space).models]
    assert len(found) == len(expected)
    for covariance in expected:
        assert any(np.allclose(covariance, other, atol=1e-10) for other in found)


def test_formats_of_hardware_are_compared_by_bits_range_and_block() -> None:
    """Twelve configurations, fewer than the loadings have dimensions: nothing is left over."""
    names = ("bfloat16", "mxfp6-e3m2", "mxfp4", "nvfp4", "int3@32", "int2@256/minmax")
    space = ConfigurationSpace({"activations": names, "states": ["float32", "bfloat16"]})
    both = cold_prior(space).models[-1]  # in which both names matter much
    # Range: 8 bits of a power of two, 4 of nvfp4's. Precision: mantissa bits, or those of an
    # integer but two. Block: a fifth more each time that it is halved, from 1,024 numbers on.
    places = [(8, 7, 0), (8, 2, 2), (8, 1, 2), (4, 1, 2.2), (8, 0, 2), (8, -1, 1.4)]
    bits = [16, 6.25, 4.25, 4.5, 3.5, 2.125]
    covariance = both.loadings @ both.loadings.T
    for i, (name, place) in enumerate(zip(names, places, strict=True)):
        first = space.index({"activations": name, "states": "float32"})
        expected = 0.5 + cold_start._GAIN * (0.5 - (bits[i] - 2.125) / (16 - 2.125) - 0.5)
        assert both.mean[first] == pytest.approx(expected)
        for other, there in zip(names, places, strict=True):
            squared = sum((x - y) ** 2 for x, y in zip(place, there, strict=True))
            kernel = 0.5 + 0.5 * math.exp(-squared / (2 * cold_start._LENGTH**2))
            # States of 12 mantissa bits, as many as count, or of 7.
            for states, factor in (("float32", 1), ("bfloat16", 0.5 + 0.5 * math.exp(-25 / 8))):
                second = space.index({"activations": other, "states": states})
                expected = cold_start._SPREAD**2 * kernel * factor
                assert covariance[first, second] == pytest.approx(expected)


def test_a_space_of_hardware_is_tuned_without_past_tasks() -> None:
    """Errors that fall with the bits that activations and states have."""
    space = ConfigurationSpace.hardware()
    meta, memory = MetaModel.cold(space), np.empty(len(space))
    errors = np.empty(len(space))
    for index in range(len(space)):
        formats = {name: parse_format(str(fmt)) for name, fmt in space.params(index).items()}
        memory[index] = 1e5 * sum(fmt.bits for fmt in formats.values())
        few = formats["activations"].bits < 4 and "/" not in str(formats["activations"])
        errors[index] = 0.4 + 0.3 * few + 0.1 / formats["states"].bits
    sampler = PEPPPSampler(meta, memory, seed=0)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        index = space.index(space.suggest(trial))
        return errors[index], memory[index]

    study.optimize(objective, n_trials=8)
    recommended = predict(study, meta, memory).recommend(memory_cap=float(np.median(memory)))
    feasible = memory <= np.median(memory)
    assert errors[recommended.index] - errors[feasible].min() < 0.05


def test_what_the_loadings_leave_over_is_noise() -> None:
    prior = cold_prior(ConfigurationSpace.paper())
    for model in prior.models:
        variance = np.square(model.loadings).sum(axis=1) + model.noise
        assert variance == pytest.approx(cold_start._SPREAD**2 + cold_start._NOISE**2)
        assert model.noise.min() >= cold_start._NOISE**2 * (1 - 1e-9)


def test_two_names_make_three_models_and_one_name_one() -> None:
    assert len(cold_prior(ConfigurationSpace.paper()).models) == 3
    assert len(cold_prior(ConfigurationSpace({"width": [8, 16, 32]})).models) == 1


def test_more_bits_do_no_harm_on_average() -> None:
    space = ConfigurationSpace.paper()
    mean = cold_prior(space).models[0].mean
    fewest = space.index({"format_a": "1-3-1", "format_b": "1-6-7"})
    most = space.index({"format_a": "1-5-3", "format_b": "1-8-11"})
    assert mean[fewest] == mean.max()
    assert mean[most] == mean.min()
    assert mean.mean() == pytest.approx(0.5, abs=0.05)


def test_numbers_that_are_not_positive_and_single_choices() -> None:
    space = ConfigurationSpace({"dropout": [0.0, 0.5, 1.0], "format_a": ["1-4-3"]})
    prior = cold_prior(space)
    correlation = prior.models[0].loadings @ prior.models[0].loadings.T
    assert correlation[0, 1] > correlation[0, 2]
    assert prior.models[0].mean == pytest.approx(0.5 + 0.5 * cold_start._GAIN)


def test_many_configurations_need_no_square_matrix() -> None:
    rates = [10 ** -(step / 25) for step in range(102)]
    space = ConfigurationSpace({**ConfigurationSpace.paper().choices, "learning_rate": rates})
    assert len(space) == 10_098
    tracemalloc.start()
    prior = cold_prior(space)
    prior.condition([0, 5000], [0.5, 0.4]).moments()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * len(space) ** 2 / 4


def test_the_meta_model_is_saved_and_loaded(tmp_path: Path) -> None:
    meta = MetaModel.cold(small())
    meta.save(tmp_path / "cold.npz")
    loaded = MetaModel.load(tmp_path / "cold.npz")
    assert loaded.space == meta.space
    assert loaded.tasks == ()
    assert loaded.errors.shape == (0, len(meta.space))
    for ours, theirs in zip(meta.prior.models, loaded.prior.models, strict=True):
        assert np.array_equal(ours.loadings, theirs.loadings)


@pytest.mark.parametrize("strategy", ["bayesian", "ed-mf", "qr-mf", "random-mf"])
def test_a_study_runs_without_past_tasks(strategy: str) -> None:
    corpus = load_corpus("plain3-cifar100")
    meta, memory, errors = MetaModel.cold(corpus.space), corpus.memory[0], corpus.errors[0]
    sampler = PEPPPSampler(meta, memory, strategy=strategy, seed=0)  # type: ignore[arg-type]
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        index = meta.space.index(meta.space.suggest(trial))
        return errors[index], memory[index]

    study.optimize(objective, n_trials=8)
    assert len({meta.space.index(trial.params) for trial in study.trials}) == 8
    prediction = predict(study, meta, memory)
    assert np.isfinite(prediction.mean).all()
    assert prediction.recommend().error <= errors.max()


def test_least_squares_need_past_tasks() -> None:
    with pytest.raises(ValueError, match="least squares need past tasks"):
        MetaModel.cold(ConfigurationSpace.paper()).predict([], [])


def test_a_million_configurations_fit_into_two_gigabytes() -> None:
    space = ConfigurationSpace({f"name{number}": range(10) for number in range(6)})
    memory = np.linspace(1e6, 2e6, len(space))
    tracemalloc.start()
    try:
        meta = MetaModel.cold(space)
        study = optuna.create_study(directions=["minimize"] * 2)
        for cap in (None, "1.5MB"):
            study.sampler = PEPPPSampler(meta, memory, measurement_cap=cap)
            study.optimize(
                lambda trial: (0.5, memory[space.index(space.suggest(trial))]), n_trials=1
            )
        prediction = predict(study, meta, memory)
        assert prediction.interval.shape == (2, len(space))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**31
    first, second = (space.index(trial.params) for trial in study.trials)
    assert first != second
    assert memory[second] <= 1.5e6
    assert np.flatnonzero(prediction.measured).tolist() == sorted((first, second))
    assert prediction.recommend("1.2MB").memory <= 1.2e6


@pytest.mark.parametrize(("depths", "models"), [(40, 7), (400, 1)])
def test_very_large_spaces_have_one_model_and_others_several(depths: int, models: int) -> None:
    tuned = {"width": range(30), "height": range(30), "depth": range(depths)}
    assert len(cold_prior(ConfigurationSpace(tuned)).models) == models


@pytest.mark.parametrize("values", [range(2001), map(str, range(2001))])
def test_names_of_too_many_values_are_refused(values: Iterable[int | str]) -> None:
    with pytest.raises(ValueError, match=r"at most 2,000 values of 'rate' .* got 2,001\. Give"):
        cold_prior(ConfigurationSpace({"rate": values}))


def test_names_of_many_texts_need_no_cube() -> None:
    space = ConfigurationSpace({"word": map(str, range(500))})
    tracemalloc.start()
    prior = cold_prior(space)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * len(space) ** 3 / 4
    assert prior.models[0].rank == cold_start._RANK
