"""The corpus of formats that hardware has: what it holds, and that it is worth learning from."""

from __future__ import annotations

import numpy as np
import pytest

from optuna_peppp import ConfigurationSpace, ErrorMatrix, MetaModel, load_corpus
from optuna_peppp.corpora.catalog import read_table


@pytest.fixture(scope="module")
def hardware() -> ErrorMatrix:
    return load_corpus("plain3-cifar100-hardware")


def test_the_corpus_of_hardware_is_a_sample_of_the_space(hardware: ErrorMatrix) -> None:
    assert hardware.space == ConfigurationSpace.hardware()
    assert set(hardware.tasks) <= set(load_corpus("plain3-cifar100").tasks)
    assert len(hardware.tasks) >= 10
    assert hardware.observed.any(axis=0).all()
    assert 0.05 < hardware.observed.mean() < 0.5
    assert hardware.settings == {"learning_rate": 0.001}


def test_rows_tell_how_they_were_measured() -> None:
    rows = read_table("plain3-cifar100-hardware").rows
    for name, value in {"optimizer": "adamw", "epochs": "3", "seed": "0", "diverged": "0"}.items():
        assert {row.fields[name] for row in rows} == {value}


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
