"""The corpora of formats that hardware has: what they hold, and that they are worth learning."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest

from optuna_peppp import ConfigurationSpace, ErrorMatrix, MetaModel, load_corpus
from optuna_peppp.configurations.data import CIFAR100_SUPERCLASSES, PYTHON_TEXTS
from optuna_peppp.corpora.catalog import read_table

SETTINGS: Final[dict[str, dict[str, str]]] = {
    "plain3-cifar100-hardware": {"model": "plain3", "learning_rate": "0.001", "batch_size": "32"},
    "vit-cifar100-hardware": {
        **{"model": "vit", "width": "32", "depth": "1", "image_size": "16"},
        **{"learning_rate": "0.003", "batch_size": "32"},
    },
    "gpt-text-hardware": {
        **{"model": "gpt", "width": "32", "depth": "1", "image_size": ""},
        **{"learning_rate": "0.003", "batch_size": "16"},
    },
}
"""How each was measured, beside what all have in common."""

COMMON: Final = {"optimizer": "adamw", "epochs": "3", "seed": "0", "diverged": "0"}


@pytest.fixture(scope="module", params=SETTINGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def hardware(name: str) -> ErrorMatrix:
    return load_corpus(name)


def test_the_corpus_of_hardware_is_a_sample_of_the_space(name: str, hardware: ErrorMatrix) -> None:
    assert hardware.space == ConfigurationSpace.hardware()
    texts = name == "gpt-text-hardware"
    tasks = {f"python:{text}" for text in PYTHON_TEXTS} if texts else {*CIFAR100_SUPERCLASSES}
    assert set(hardware.tasks) == tasks
    assert hardware.observed.any(axis=0).all()
    assert 0.05 < hardware.observed.mean() < 0.5
    assert hardware.settings == {"learning_rate": float(SETTINGS[name]["learning_rate"])}


def test_rows_tell_how_they_were_measured(name: str) -> None:
    rows = read_table(name).rows
    for field, value in {**COMMON, **SETTINGS[name]}.items():
        assert {row.fields[field] for row in rows} == {value}, field


def test_few_bits_cost_more_than_a_seed(hardware: ErrorMatrix) -> None:
    """Beside the mean of the same task: what the pilot had shown, on all of them."""
    above = hardware.errors - np.nanmean(hardware.errors, axis=1, keepdims=True)
    cost = {
        name: np.nanmean(above[:, hardware.space.matching({"activations": name})])
        for name in hardware.space.choices["activations"]
    }
    assert max(cost, key=lambda name: float(cost[name])) == "int2@32"
    assert cost["int2@32"] > cost["bfloat16"] + 0.05
    assert cost["int3@32"] > cost["bfloat16"]


def test_what_it_teaches(hardware: ErrorMatrix) -> None:
    """From one measurement, which formats of activations are the bad ones on a new task."""
    meta, space = MetaModel.fit(hardware), hardware.space
    plain = {"activations": "bfloat16", "states": "float32", "master": "float32"}
    moments = meta.prior.condition([space.index(plain)], [0.4]).moments()
    for states in space.choices["states"]:
        coarse, fine = (
            space.index({**plain, "activations": name, "states": states})
            for name in ("int2@32", "mxfp8-e4m3")
        )
        assert moments.mean[coarse] > moments.mean[fine] + 0.03
        assert abs(moments.mean[fine] - 0.4) < 0.05
