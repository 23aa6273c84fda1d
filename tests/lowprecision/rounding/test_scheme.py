from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, cast, get_args

import pytest
import torch
from torch import Tensor

from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.configurations.roles import Role
from optuna_peppp.lowprecision import (
    LowPrecisionModule,
    LowPrecisionOptimizer,
    Quantizer,
    RoundingScheme,
    quantize,
)
from optuna_peppp.lowprecision.rounding.quantize import Backend, Rounding
from optuna_peppp.lowprecision.rounding.rounder import Rounder

PRECISION = Precision.parse("1-3-1", "1-6-7")
CPU = torch.device("cpu")
X = torch.linspace(-3, 3, 101)


def test_every_role_is_a_field() -> None:
    names = [field.name for field in fields(RoundingScheme)]
    assert names == [*get_args(Role), "rounding", "loss_scale"]


def test_the_default_is_the_papers() -> None:
    quantizer = Quantizer(PRECISION)
    formats = {role: str(quantizer.format(role)) for role in get_args(Role)}
    assert formats == {
        "weights": "1-3-1",
        "activations": "1-3-1",
        "activation_gradients": "1-3-1",
        "weight_gradients": "1-6-7",
        "momentum": "1-6-7",
        "accumulators": "1-6-7",
        "input": "1-6-7",
        "logits": "1-6-7",
    }
    assert (quantizer.scheme.rounding, quantizer.scheme.loss_scale) == ("nearest", 1000)


@pytest.mark.parametrize("role", get_args(Role))
def test_a_field_chooses_the_format_of_its_role_alone(role: Role) -> None:
    for choice, fmt in (("A", FloatFormat(3, 1)), ("B", FloatFormat(6, 7)), (None, None)):
        scheme = replace(RoundingScheme(), **{role: choice})  # type: ignore[arg-type]
        quantizer = Quantizer(PRECISION, scheme)
        rounder = quantizer.rounder(CPU)
        assert quantizer.format(role) == fmt
        assert rounder.rounds(role) is (fmt is not None)
        if fmt is None:
            assert rounder(X, role) is X
        else:
            assert torch.equal(rounder(X, role), quantize(X, fmt))
        for other in cast(tuple[Role, ...], get_args(Role)):
            if other != role:
                assert quantizer.format(other) == Quantizer(PRECISION).format(other)


@pytest.mark.parametrize("role", get_args(Role))
def test_a_recipe_leaves_out_what_is_float32(role: Role) -> None:
    scheme = replace(RoundingScheme(), **{role: None})  # type: ignore[arg-type]
    recipe = scheme.recipe(PRECISION)
    assert set(recipe) == set(get_args(Role)) - {role}
    assert recipe == {
        other: fmt for other, fmt in RoundingScheme().recipe(PRECISION).items() if other != role
    }
    assert scheme.recipe(None) == {}


@pytest.mark.parametrize("value", ["1-4-3/1-6-7", FloatFormat(4, 3), 8])
def test_what_is_no_precision(value: object) -> None:
    with pytest.raises(
        ValueError, match=r"precision must be a Precision; got .*: give Precision[.]parse"
    ):
        Quantizer(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "remedy"),
    [(PRECISION, repr(PRECISION)), (RoundingScheme(), "precision"), ("1-4-3", "precision")],
)
def test_what_is_no_quantizer(value: Any, remedy: str) -> None:
    message = f"quantizer must be a Quantizer; got .*: give Quantizer[(]{re.escape(remedy)}[)]"
    with pytest.raises(ValueError, match=message):
        LowPrecisionModule(torch.nn.Linear(2, 2), value)
    with pytest.raises(ValueError, match=message):
        LowPrecisionOptimizer(torch.optim.SGD(torch.nn.Linear(2, 2).parameters()), value)


@dataclass(frozen=True)
class Whole:
    """A format of another kind: whole numbers."""

    keyed: ClassVar[bool] = False

    def round(self, x: Tensor, keys: Tensor | None, axis: int | None = -1) -> Tensor:
        return x.round()


def test_a_format_of_another_kind() -> None:
    rounder = Rounder(Quantizer(PRECISION).recipe, None, {"weights": Whole()}, None)
    assert torch.equal(rounder(X, "weights"), X.round())
    numbers = torch.complex(X, 2 * X)
    assert torch.equal(rounder(numbers, "weights"), torch.complex(X.round(), (2 * X).round()))
    assert rounder(X, "momentum") is X
    assert (rounder.rounds("weights"), rounder.rounds("momentum")) == (True, False)


def test_without_a_precision_nothing_is_rounded() -> None:
    rounder = Quantizer(None, RoundingScheme(rounding="stochastic")).rounder(CPU)
    for role in get_args(Role):
        assert rounder(X, role) is X
        assert not rounder.rounds(role)


def stochastic(seed: int, backend: Backend = "eager") -> Rounder:
    scheme, generator = RoundingScheme(rounding="stochastic"), torch.Generator().manual_seed(seed)
    return Quantizer(PRECISION, scheme, generator, backend).rounder(CPU)


def test_stochastic_rounding_draws_from_the_generator() -> None:
    first, second, third = (stochastic(seed)(X, "weights") for seed in (7, 7, 8))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert not torch.equal(first, quantize(X, FloatFormat(3, 1)))
    neighbours = torch.stack([first, third]) - X
    assert bool((neighbours.abs() < 1).all())


def test_a_pass_has_a_stream_for_every_tensor() -> None:
    rounder = stochastic(7)
    x = torch.full((64,), 1.2)
    rounded = [
        rounder(x, role, index)
        for role in cast(tuple[Role, ...], ("weights", "activations", "activation_gradients"))
        for index in (0, 1, 2, 63)
    ]
    assert len({tuple(values.tolist()) for values in rounded}) == len(rounded)
    assert torch.equal(rounder(x, "weights", 2), rounded[2])


def test_streams_are_unbiased_and_uncorrelated() -> None:
    rounder = stochastic(1)
    # 1.1 is 0.2 of the way from 1 to 1.5.
    ups = torch.stack(
        [(rounder(torch.full((50_000,), 1.1), "activations", i) > 1).double() for i in range(20)]
    )
    assert ups.mean(1).numpy() == pytest.approx(0.2, abs=5 * 0.4 / 50_000**0.5)
    correlations = torch.corrcoef(ups) - torch.eye(20)
    assert float(correlations.abs().max()) < 5 / 50_000**0.5


def test_renewing_is_drawing_again_into_the_same_tensor() -> None:
    scheme, generator = RoundingScheme(rounding="stochastic"), torch.Generator().manual_seed(7)
    quantizer = Quantizer(PRECISION, scheme, generator)
    first = quantizer.rounder(CPU)
    assert first.keys is not None
    address, keys = first.keys.data_ptr(), first.keys.clone()
    second = quantizer.rounder(CPU)
    generator.manual_seed(7)
    renewed = quantizer.rounder(CPU)
    assert renewed.keys is not None
    assert torch.equal(renewed.keys, keys)
    first.renew()
    assert second.keys is not None
    assert torch.equal(first.keys, second.keys)
    assert first.keys.data_ptr() == address


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_the_compiled_kernels_answer_the_same(rounding: Rounding) -> None:
    answers = []
    for backend in cast(tuple[Backend, ...], ("eager", "compiled")):
        generator = torch.Generator().manual_seed(7)
        quantizer = Quantizer(PRECISION, RoundingScheme(rounding=rounding), generator, backend)
        answers.append(quantizer.rounder(CPU)(X, "activations", 3))
    assert torch.equal(*answers)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_the_loss_scale_is_positive_and_finite(scale: float) -> None:
    with pytest.raises(ValueError, match=f"loss_scale must be positive and finite; got {scale}"):
        RoundingScheme(loss_scale=scale)


@pytest.mark.parametrize("role", get_args(Role))
def test_an_unknown_choice_of_a_role(role: Role) -> None:
    for value in ("C", "a", "", 0, False, ["A"]):
        with pytest.raises(ValueError, match=f"{role} must be 'A', 'B' or None; got "):
            RoundingScheme(**{role: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["stochasitc", "Nearest", None, 1])
def test_an_unknown_rounding(value: object) -> None:
    with pytest.raises(ValueError, match="rounding must be 'nearest' or 'stochastic'; got "):
        RoundingScheme(rounding=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["compile", "cuda", None, True])
def test_an_unknown_backend(value: object) -> None:
    with pytest.raises(ValueError, match="backend must be 'compiled', 'eager' or 'qpytorch'; got"):
        Quantizer(PRECISION, backend=value)  # type: ignore[arg-type]
