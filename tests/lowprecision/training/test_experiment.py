from __future__ import annotations

import copy
import gc
import json
import math
import pickle
import weakref
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from optuna_peppp.configurations.names import TUNABLE, Network
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.lowprecision import (
    Experiment,
    ImageData,
    RoundingScheme,
    TrainingResult,
    build_model,
    load_dataset,
    memory_vector,
    train,
)
from optuna_peppp.lowprecision.training import experiment as module
from optuna_peppp.lowprecision.training import step
from optuna_peppp.lowprecision.training.same import classes_of

PARAMS = {"format_a": "1-5-3", "format_b": "1-6-9"}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Two kinds of noisy 10x10 images, two epochs: measured in a fraction of a second."""
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 2
    images = rng.integers(0, 100, (64, 10, 10, 3)) + 120 * labels[:, None, None, None]
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    np.savez(
        path,
        train_images=images.astype(np.uint8),
        train_labels=labels,
        test_images=images[:31].astype(np.uint8),
        test_labels=labels[:31],
    )
    return Experiment(f"npz:{path}", "plain3", epochs=2, batch_size=16)


def weights(experiment: Experiment) -> list[Tensor]:
    return [p.detach() for p in experiment.build().parameters()]


def test_the_defaults_are_the_papers_but_for_the_epochs() -> None:
    experiment = Experiment("digits", "plain3")
    assert (experiment.learning_rate, experiment.momentum, experiment.weight_decay) == (
        0.001,
        0.9,
        5e-4,
    )
    assert (experiment.batch_size, experiment.rounding, experiment.seed) == (32, "stochastic", 0)


def test_an_experiment_comes_back_from_its_settings() -> None:
    experiment = Experiment("digits", "plain3", image_size=8, epochs=2, seed=3, momentum=0.5)
    stored = json.loads(json.dumps(experiment.settings()))
    assert stored == {
        "data": "digits",
        "network": "plain3",
        "image_size": 8,
        "epochs": 2,
        "batch_size": 32,
        "learning_rate": 0.001,
        "momentum": 0.5,
        "weight_decay": 5e-4,
        "rounding": "stochastic",
        "seed": 3,
        "test_fraction": 0.2,
        "optimizer": "sgd",
        "schedule": "constant",
        "train": None,
        "sites": "modules",
        "width": None,
        "depth": None,
    }
    assert Experiment.from_settings(stored) == experiment
    assert Experiment.from_settings(stored, "cpu:0") == replace(experiment, device="cpu:0")
    before = {"data": "digits", "network": "plain3"}  # of when there was nothing else to set
    assert Experiment.from_settings(before) == Experiment("digits", "plain3")


@pytest.mark.parametrize(
    "settings", [{}, {"data": "digits"}, {"data": "digits", "network": "plain3", "colour": "red"}]
)
def test_settings_of_no_experiment(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="settings must be what Experiment"):
        Experiment.from_settings(settings)


@pytest.mark.parametrize(
    ("network", "image_size", "expected"),
    [("plain3", None, 16), ("resnet18", None, 10), ("plain3", 8, 8), ("resnet18", 12, 12)],
)
def test_plain3_takes_16_pixels_by_default(
    tiny: Experiment, network: Network, image_size: int | None, expected: int
) -> None:
    experiment = replace(tiny, network=network, image_size=image_size)
    assert experiment.load().input_shape == (3, expected, expected)


def small_archive(path: Path, channels: int = 3) -> str:
    """Two classes of four noisy 8x8 images."""
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, channels)).astype(np.uint8)
    labels = np.arange(8) % 2
    np.savez(
        path,
        train_images=images,
        train_labels=labels,
        test_images=images,
        test_labels=labels,
    )
    return f"npz:{path}"


def test_an_experiment_reads_its_data_once(
    tiny: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []

    def counted(name: str, **options: Any) -> ImageData:
        reads.append(name)
        return load_dataset(name, **options)

    monkeypatch.setattr(module, "load_dataset", counted)
    monkeypatch.setattr(module, "train", lambda *_, **__: TrainingResult(0.5, (0.5,), False, 1))
    experiment = replace(tiny)
    first = experiment.load()
    experiment.memory(ConfigurationSpace.paper())
    for learning_rate in (0.1, 0.2):
        experiment.measure(PARAMS | {"learning_rate": learning_rate})
    assert experiment.load() is first
    assert len(reads) == 1
    experiment.release()
    assert experiment.load() is not first
    assert len(reads) == 2


def test_what_an_experiment_read_ends_with_it(tmp_path: Path) -> None:
    experiment = Experiment(small_archive(tmp_path / "a.npz"), "plain3")
    alive = weakref.ref(experiment.load().train_images)
    assert alive() is not None
    del experiment
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    "again",
    [replace, copy.deepcopy, copy.copy, "pickle"],
    ids=["replace", "deepcopy", "copy", "pickle"],
)
def test_a_file_that_changes_is_read_again_by_others(tmp_path: Path, again: Any) -> None:
    experiment = Experiment(small_archive(tmp_path / "a.npz"), "plain3")
    assert experiment.load().input_shape == (3, 16, 16)
    small_archive(tmp_path / "a.npz", channels=1)
    assert experiment.load().input_shape == (3, 16, 16)
    if again == "pickle":
        other = pickle.loads(pickle.dumps(experiment))
        assert len(pickle.dumps(experiment)) < 1000
    else:
        other = again(experiment)
    assert other == experiment
    assert hash(other) == hash(experiment)
    assert other.load().input_shape == (1, 16, 16)


def test_settings_are_pythons_own() -> None:
    experiment = Experiment(
        np.str_("digits"),
        "plain3",
        image_size=np.uint8(8),  # type: ignore[arg-type]
        epochs=np.int64(3),  # type: ignore[arg-type]
        batch_size=np.int32(16),  # type: ignore[arg-type]
        learning_rate=np.float32(0.5),  # type: ignore[arg-type]
        momentum=0,
        weight_decay=Fraction(1, 2),  # type: ignore[arg-type]
        seed=np.uint64(2**63),  # type: ignore[arg-type]
        test_fraction=np.float64(0.25),
        device=torch.device("cpu"),  # type: ignore[arg-type]
    )
    expected = {
        "data": "digits",
        "network": "plain3",
        "image_size": 8,
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 0.5,
        "momentum": 0.0,
        "weight_decay": 0.5,
        "rounding": "stochastic",
        "seed": 2**63,
        "test_fraction": 0.25,
        "optimizer": "sgd",
        "schedule": "constant",
        "train": None,
        "sites": "modules",
        "width": None,
        "depth": None,
        "packed": False,
        "device": "cpu",
    }
    stored = asdict(experiment)
    assert json.loads(json.dumps(stored)) == expected
    assert {type(value) for value in stored.values()} == {str, int, float, bool, type(None)}


WHOLE: list[Any] = [0, -1, 1.5, 2.0, math.nan, True, np.True_, "2", np.array([2])]
NUMBERS: list[Any] = [-0.1, math.nan, math.inf, True, "0.1", 1j, None, np.array([0.1])]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("epochs", value) for value in [*WHOLE, None]),
        *(("batch_size", value) for value in [*WHOLE, None]),
        *(("image_size", value) for value in WHOLE),
        *(("seed", value) for value in [1.5, 2.0, True, "0", None, -(2**63) - 1, 2**64]),
        *(("learning_rate", value) for value in [*NUMBERS, 0, 0.0]),
        *(("momentum", value) for value in NUMBERS),
        *(("weight_decay", value) for value in NUMBERS),
        *(("test_fraction", value) for value in [*NUMBERS, 0, 1, 1.5]),
        ("network", "resnet19"),
        ("network", None),
        ("rounding", "stochasitc"),
        ("rounding", None),
        ("device", "abacus"),
    ],
    ids=repr,
)
def test_settings_out_of_range(name: str, value: Any) -> None:
    settings: dict[str, Any] = {"data": "digits", "network": "plain3"} | {name: value}
    with pytest.raises(ValueError, match=f"^{name} must be .*; got ") as caught:
        Experiment(**settings)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("data", ["digist", "npz:", "cifar100:cars", "", None, 3, Path("a.npz")])
def test_other_data_sets(data: Any) -> None:
    with pytest.raises(ValueError, match=r"(data set|superclass of cifar100) must be .*; got "):
        Experiment(data, "plain3")


def test_the_nearest_word_is_named() -> None:
    with pytest.raises(ValueError, match="Did you mean 'resnet18'"):
        Experiment("digits", "resnet-18")
    with pytest.raises(ValueError, match="Did you mean 'stochastic'"):
        Experiment("digits", "plain3", rounding="stochasitc")  # type: ignore[arg-type]


def test_every_configuration_starts_from_the_same_weights(tiny: Experiment) -> None:
    state = torch.random.get_rng_state()
    assert all(map(torch.equal, weights(tiny), weights(replace(tiny, learning_rate=0.1))))
    other = weights(replace(tiny, seed=1))
    assert not torch.equal(weights(tiny)[0], other[0])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_memory_is_that_of_its_network(tiny: Experiment) -> None:
    space = ConfigurationSpace.paper()
    model = build_model("plain3", 2, (3, 16, 16))
    expected = memory_vector(space, model, (3, 16, 16), 16)
    np.testing.assert_array_equal(tiny.memory(space), expected)
    resnet = replace(tiny, network="resnet18")
    model = build_model("resnet18", 2, (3, 10, 10))
    expected = memory_vector(space, model, (3, 10, 10), 16)
    np.testing.assert_array_equal(resnet.memory(space), expected)


def test_a_measurement_is_a_training_with_these_settings(
    tiny: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[ImageData, Precision | None, dict[str, Any]]] = []

    def watched(model: Any, data: ImageData, precision: Any, **settings: Any) -> TrainingResult:
        calls.append((data, precision, settings))
        return TrainingResult(0.5, (0.5,), False, 1)

    monkeypatch.setattr(module, "train", watched)
    experiment = replace(tiny, seed=3, rounding="nearest", momentum=0.7)
    experiment.measure(PARAMS | {"learning_rate": 0.25, "weight_decay": 0.0})
    ((data, precision, settings),) = calls
    assert data is experiment.load()
    assert precision == Recipe.paper("1-5-3", "1-6-9")
    assert settings == {
        "learning_rate": 0.25,
        "momentum": 0.7,
        "weight_decay": 0.0,
        "epochs": 2,
        "batch_size": 16,
        "seed": 3,
        "device": "cpu",
        "optimizer": "sgd",
        "schedule": "constant",
        "packed": False,
        "on_epoch": None,
    }


def test_packing_is_no_setting(tiny: Experiment) -> None:
    packed = replace(tiny, packed=True)
    assert packed.settings() == tiny.settings()
    result = packed.measure(PARAMS)
    data = tiny.load()
    recipe = Recipe.paper("1-5-3", "1-6-9", tiny.rounding)
    model = tiny.build()
    assert result == train(model, data, recipe, backend="eager", epochs=2, batch_size=16)


def test_an_own_training_packs_for_itself(tiny: Experiment) -> None:
    with pytest.raises(ValueError, match="packed must be left out with train"):
        replace(tiny, train="operator:call", packed=True)


def test_a_measurement_is_repeatable() -> None:
    # The step that `tune` compiles without arguments, so that one machine compiles it once.
    digits = Experiment("digits", "plain3", epochs=1)
    done: list[int] = []
    first, second = digits.measure(PARAMS, done.append), digits.measure(PARAMS)
    assert first == second
    assert done == [1]
    direct = train(
        digits.build(),
        digits.load(),
        Precision.parse("1-5-3", "1-6-9"),
        epochs=1,
        scheme=RoundingScheme(rounding="stochastic"),
    )
    assert first == direct


@pytest.mark.parametrize("name", TUNABLE)
def test_a_configuration_may_choose_the_settings(
    tiny: Experiment, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every momentum and weight decay would be compiled anew.
    monkeypatch.setattr(step, "can_compile", lambda: False)
    choices = {"learning_rate": 0.3, "momentum": 0.0, "weight_decay": 3.0, "optimizer": "adam"}
    choices |= {"schedule": "cosine", "batch_size": 8}
    chosen = choices[name]
    settings: dict[str, Any] = {name: chosen}
    assert tiny.measure(PARAMS | settings) == replace(tiny, **settings).measure(PARAMS)


def test_other_names_are_refused(tiny: Experiment) -> None:
    message = r"params may hold format_a, .* weight_decay; got \['epochs', 'rounding'\]"
    with pytest.raises(ValueError, match=message):
        tiny.measure(PARAMS | {"rounding": "nearest", "epochs": 7})


def test_assignments_that_are_one_training() -> None:
    experiment = Experiment("digits", "plain3", image_size=16)
    space = ConfigurationSpace.assignments(("1-3-1", "1-3-2"), demotion=(0.0, 0.2, 0.4, 1.0))
    # Of plain3's groups the largest alone holds more than two fifths of all numbers.
    found = classes_of(experiment, space)
    assert found is not None
    assert found.tolist() == [0, 1, 1, 3, 0, 5, 5, 7]
    assert classes_of(experiment, ConfigurationSpace.paper()) is None


def test_other_settings_are_other_trainings() -> None:
    experiment = Experiment("digits", "plain3", image_size=16)
    choices = ConfigurationSpace.assignments(demotion=(0.0, 1.0)).choices
    space = ConfigurationSpace({**choices, "learning_rate": [0.1, 0.01]})
    # Nothing demoted: two step sizes, whatever the lower format.
    found = classes_of(experiment, space)
    assert found is not None
    assert found.tolist() == [0, 1, 2, 3, 0, 1, 6, 7]
