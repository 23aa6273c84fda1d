"""Files of meta-models that lie: undamaged, larger than they seem, of other types."""

from __future__ import annotations

import io
import json
import math
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.meta.prior import TaskPrior
from optuna_peppp.meta.transforms import Transform

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def model() -> MetaModel:
    errors = np.random.default_rng(0).uniform(0.1, 0.9, (4, 5))
    space = ConfigurationSpace({"configuration": range(5)})
    return MetaModel.fit(ErrorMatrix(space, tuple("abcd"), errors, np.ones((4, 5))))


@pytest.fixture
def saved(tmp_path: Path, model: MetaModel) -> Path:
    path = tmp_path / "meta.npz"
    model.save(path)
    return path


def entries(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def forge(path: Path, header: Any = None, arrays: dict[str, Any] | None = None) -> None:
    """Changes a saved model, in an undamaged archive; None takes a field or an array away."""
    held = entries(path)
    fields = json.loads(held.pop("header").tobytes())
    if not isinstance(header, dict):
        raw = fields if header is None else header
    else:
        raw = {name: value for name, value in {**fields, **header}.items() if value is not None}
    held.update(arrays or {})
    kept = {name: np.asarray(array) for name, array in held.items() if array is not None}
    text = (raw if isinstance(raw, str) else json.dumps(raw)).encode()
    np.savez(path, allow_pickle=False, header=np.frombuffer(text, dtype=np.uint8), **kept)


ORDER = (
    *("errors", "embeddings", "mean", "noise"),
    *("prior_mean", "prior_loadings", "prior_noise", "prior_scales", "prior_weights"),
)
FIVE = [["configuration", [0, 1, 2, 3, 4]]]


def test_what_is_forged_without_a_change_is_loaded(saved: Path) -> None:
    before = saved.read_bytes()
    forge(saved)
    assert json.loads(entries(saved)["header"].tobytes())["ranks"] == [2, 3]
    MetaModel.load(saved).save(saved)
    assert len(saved.read_bytes()) == len(before)


def test_a_file_of_version_3_is_read_whatever_its_checksum(saved: Path, model: MetaModel) -> None:
    forge(saved, {"version": 3}, {"checksum": np.zeros(32, dtype=np.uint8)})
    loaded = MetaModel.load(saved)
    np.testing.assert_array_equal(loaded.errors, model.errors)
    np.testing.assert_array_equal(loaded.prior.weights, model.prior.weights)


FIELDS: dict[str, list[Any]] = {
    "format": [None, [], {}, 3],
    "version": [None, "3", [], {}, 1e999],
    "choices": [
        *(None, {}, "ab", 7, [], [[]], [["x"]], [["x", 5]], [[[], [1]]], [["x", "abcde"]]),
        *([[0, [0, 1, 2, 3, 4]]], ["xy"] * 5, [["x", {}]], [["x", [None] * 5]], [["x", [[0]] * 5]]),
        *([["x", [True, 1, 2, 3, 4]]], [["x", [0, 0, 1, 2, 3]]], [["x", [{}]]]),
        *([["x", [math.nan, 1, 2, 3, 4]]], FIVE * 2, [["x", [0, 1]]], [["x", list(range(6))]]),
        *([["x", [0]], ["x", [0, 1, 2, 3, 4]]], [["format_a", ["a", "b", "c", "d", "e"]]]),
        [[str(name), [0, 1]] for name in range(64)],
    ],
    "tasks": [
        *(None, {}, "abcd", 4, [], ["a"], ["a"] * 5, [1, 2, 3, 4], [None] * 4, [["a"]] * 4),
        {"a": 1},
    ],
    "selection": [None, 7, [], {}, True],
    "transform": [None, "probit", "", 7, [], {}, True, ["identity"]],
    "ranks": [
        *(None, [], {}, "23", 5, [5], [2, 2], [2, 4], [1, 1, 3], [-1, 6], [2.0, 3.0], ["2", "3"]),
        *([None, 5], [[2], [3]], [True, 4], [2, 3, 0], [10**30, 3], [5, 0, 0, 0]),
    ],
}
HEADERS = [
    *([], "[]", "{}", "null", '"text"', "7", "NaN", "", "{", "[" * 100_000, '{"format":' * 50_000),
    '{"format": "optuna_peppp.MetaModel", "version": 4}',
    '{"format": "optuna_peppp.MetaModel", "version": ' + "3" * 5000 + "}",
    *({name: value} for name, values in FIELDS.items() for value in values),
]


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: str(header)[:40])
def test_headers_that_lie_are_refused_in_a_sentence(saved: Path, header: Any) -> None:
    forge(saved, header)
    with pytest.raises(ValueError, match=r"meta\.npz") as caught:
        MetaModel.load(saved)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def changed_arrays() -> Iterator[tuple[str, Any]]:
    """Arrays of a model of four tasks and five configurations that none can have."""
    for name in ORDER:
        for wrong in (
            None,
            [],
            0.5,
            np.zeros((1, 1, 1)),
            np.zeros((0, 5)),
            np.zeros((5, 0)),
            ["a"],
        ):
            yield name, wrong
        for number in (math.nan, math.inf, 1e300):
            yield name, number
    for name in ("noise", "prior_noise", "prior_scales", "prior_weights"):
        yield name, -1.0
    for name in ("prior_noise", "prior_scales"):
        yield name, 1e-300
        yield name, 0.0
    yield "errors", 1.5
    yield "errors", -0.5


@pytest.mark.parametrize(("name", "wrong"), list(changed_arrays()))
def test_arrays_that_lie_are_refused_in_a_sentence(saved: Path, name: str, wrong: Any) -> None:
    if isinstance(wrong, float) and wrong != 0.5:
        # One number of an array that is right otherwise.
        array = entries(saved)[name].copy()
        array.flat[0] = wrong
        wrong = array
    forge(saved, arrays={name: wrong})
    with pytest.raises(ValueError, match=r"meta\.npz") as caught:
        MetaModel.load(saved)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("dtype", [np.complex128, "<U9", "S9", "M8[s]", np.int64, bool])
def test_arrays_of_other_types_are_refused(saved: Path, dtype: Any) -> None:
    forge(saved, arrays={"mean": entries(saved)["mean"].astype(dtype)})
    with pytest.raises(ValueError, match=r"is not a file of MetaModel\.save, or it is damaged"):
        MetaModel.load(saved)


@pytest.mark.parametrize("dtype", [np.float32, ">f8"])
def test_floats_of_other_sizes_mean_the_same(saved: Path, dtype: Any) -> None:
    mean = MetaModel.load(saved).mean
    forge(saved, arrays={"mean": mean.astype(dtype)})
    np.testing.assert_allclose(MetaModel.load(saved).mean, mean, rtol=1e-6)


def bomb(path: Path, *, compressed: bool, claimed: int, count: int = 1) -> None:
    """A small file whose entries claim to be large."""
    head = io.BytesIO()
    fields = {"descr": "<f8", "fortran_order": False, "shape": (claimed,)}
    np.lib.format.write_array_header_1_0(head, fields)
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as file:
        for number in range(count):
            with file.open(f"{'errors' if number else 'header'}{number or ''}.npy", "w") as entry:
                entry.write(head.getvalue())
                if compressed:
                    for _ in range(64):
                        entry.write(bytes(2**20))


@pytest.mark.parametrize(
    ("compressed", "claimed", "count"),
    [(True, 2**23, 1), (True, 2**23, 4), (False, 2**40, 1), (False, 2**62, 1), (False, 10**30, 1)],
)
def test_what_unpacks_to_more_than_it_holds_is_refused_unseen(
    tmp_path: Path, compressed: bool, claimed: int, count: int
) -> None:
    path = tmp_path / "meta.npz"
    bomb(path, compressed=compressed, claimed=claimed, count=count)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"is not a file of MetaModel\.save, or it is damaged"):
        MetaModel.load(path)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_a_sparse_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "meta.npz"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match=r"is not a file of MetaModel\.save"):
        MetaModel.load(path)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**9), transform=st.sampled_from(get_args(Transform)))
def test_whatever_is_loaded_can_be_used(
    tmp_path_factory: pytest.TempPathFactory, seed: int, transform: Transform
) -> None:
    """Numbers up to the limits of what is loaded: either refused, or fit for every use."""
    path = tmp_path_factory.mktemp("meta") / "meta.npz"
    rng = np.random.default_rng(seed)
    d, ranks = 6, [int(k) for k in rng.integers(0, 4, 2)]

    def numbers(*shape: int, signed: bool = True) -> Array:
        exponents = rng.uniform(-12, 4) + rng.uniform(-3, 3, shape)
        signs = rng.choice([-1, 1], shape) if signed else 1.0
        return signs * 10.0 ** np.clip(exponents, -12, 4)

    try:
        models = tuple(
            FactorModel(numbers(d), numbers(d, k), numbers(d, signed=False)) for k in ranks
        )
        prior = TaskPrior(models, numbers(3, 2, signed=False), np.full((2, 3), 1 / 6), transform)
        MetaModel(
            ConfigurationSpace({"x": list(range(d))}),
            *(("a", "b"), rng.uniform(0, 1, (2, d)), numbers(d, 2), numbers(d)),
            *(numbers(d, signed=False), prior),
        ).save(path)
        meta = MetaModel.load(path)
    except ValueError:
        return
    for count in (0, 1, d):
        where = list(range(count))
        errors = rng.uniform(0, 1, count)
        posterior = meta.prior.condition(where, errors)
        assert np.isfinite(posterior.draws(50, seed=0)).all()
        assert np.isfinite(posterior.moments().std).all()
        for predicted in meta.predict(where, errors):
            assert np.isfinite(predicted).all()
