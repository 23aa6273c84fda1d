from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from optuna_peppp.formats import Precision
from optuna_peppp.lowprecision import (
    Experiment,
    ImageData,
    RoundingScheme,
    TrainingResult,
    build_model,
    memory_vector,
    train,
)
from optuna_peppp.lowprecision import experiment as module
from optuna_peppp.lowprecision.experiment import TUNABLE
from optuna_peppp.space import ConfigurationSpace

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


@pytest.mark.parametrize(
    ("network", "image_size", "expected"),
    [("plain3", None, 16), ("resnet18", None, 10), ("plain3", 8, 8), ("resnet18", 12, 12)],
)
def test_plain3_takes_16_pixels_by_default(
    tiny: Experiment, network: str, image_size: int | None, expected: int
) -> None:
    experiment = replace(tiny, network=network, image_size=image_size)
    assert experiment.load().input_shape == (3, expected, expected)


def test_the_data_is_loaded_once(tiny: Experiment) -> None:
    assert tiny.load() is replace(tiny, seed=5, network="plain3", image_size=16).load()


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
    assert precision == Precision.parse("1-5-3", "1-6-9")
    assert settings == {
        "learning_rate": 0.25,
        "momentum": 0.7,
        "weight_decay": 0.0,
        "epochs": 2,
        "batch_size": 16,
        "seed": 3,
        "device": "cpu",
        "scheme": RoundingScheme(rounding="nearest"),
        "on_epoch": None,
    }


def test_a_measurement_is_repeatable(tiny: Experiment) -> None:
    done: list[int] = []
    first, second = tiny.measure(PARAMS, done.append), tiny.measure(PARAMS)
    assert first == second
    assert done == [1, 2]
    direct = train(
        tiny.build(),
        tiny.load(),
        Precision.parse("1-5-3", "1-6-9"),
        epochs=2,
        batch_size=16,
        scheme=RoundingScheme(rounding="stochastic"),
    )
    assert first == direct


@pytest.mark.parametrize("name", TUNABLE)
def test_a_configuration_may_choose_the_settings(tiny: Experiment, name: str) -> None:
    chosen = {"learning_rate": 0.3, "momentum": 0.0, "weight_decay": 3.0}[name]
    settings: dict[str, Any] = {name: chosen}
    assert tiny.measure(PARAMS | settings) == replace(tiny, **settings).measure(PARAMS)


def test_other_names_are_refused(tiny: Experiment) -> None:
    message = r"params may hold format_a, .* weight_decay; got \['epochs', 'rounding'\]"
    with pytest.raises(ValueError, match=message):
        tiny.measure(PARAMS | {"rounding": "nearest", "epochs": 7})
