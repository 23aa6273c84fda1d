from __future__ import annotations

from dataclasses import fields, replace
from typing import cast, get_args

import pytest
import torch

from optuna_peppp.formats import FloatFormat, Precision
from optuna_peppp.lowprecision import Quantizer, RoundingScheme, quantize
from optuna_peppp.lowprecision.scheme import Role

PRECISION = Precision.parse("1-3-1", "1-6-7")
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
        assert quantizer.format(role) == fmt
        if fmt is None:
            assert quantizer(X, role) is X
        else:
            assert torch.equal(quantizer(X, role), quantize(X, fmt))
        for other in cast(tuple[Role, ...], get_args(Role)):
            if other != role:
                assert quantizer.format(other) == Quantizer(PRECISION).format(other)


def test_without_a_precision_nothing_is_rounded() -> None:
    quantizer = Quantizer(None)
    for role in get_args(Role):
        assert quantizer(X, role) is X


def test_stochastic_rounding_draws_from_the_generator() -> None:
    scheme = RoundingScheme(rounding="stochastic")
    ours = Quantizer(PRECISION, scheme, torch.Generator().manual_seed(7))(X, "weights")
    generator = torch.Generator().manual_seed(7)
    assert torch.equal(ours, quantize(X, FloatFormat(3, 1), "stochastic", generator))
    assert not torch.equal(ours, quantize(X, FloatFormat(3, 1)))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_the_loss_scale_is_positive(scale: float) -> None:
    with pytest.raises(ValueError, match=f"loss_scale must be positive; got {scale}"):
        RoundingScheme(loss_scale=scale)
