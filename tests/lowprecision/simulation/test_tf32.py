from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from optuna_peppp import Recipe, parse_format
from optuna_peppp.configurations.names import Network
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.configurations.roles import Exemption
from optuna_peppp.lowprecision import RoundingScheme, build_model
from optuna_peppp.lowprecision.simulation.tf32 import convolutions_fit_tf32, convolutions_in_tf32

FITS = Precision.parse("1-5-3", "1-8-9")
SCHEME = RoundingScheme()


def images(size: int = 8) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def plain3() -> nn.Module:
    return build_model("plain3", 4, (3, 8, 8))


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("name", ["plain3", "resnet20", "resnet18", "vgg11"])
def test_the_networks_of_the_package_fit(name: Network, rounding: str) -> None:
    size = 32 if name == "vgg11" else 8
    scheme = replace(SCHEME, rounding=rounding)  # type: ignore[arg-type]
    network = build_model(name, 4, (3, size, size))
    assert convolutions_fit_tf32(network, FITS, scheme, images(size))


@pytest.mark.parametrize(
    "precision",
    [None, Precision.parse("1-5-3", "1-8-11"), Precision.parse("1-8-11", "1-8-9")],
    ids=str,
)
def test_wide_formats_do_not_fit(precision: Precision | None) -> None:
    network = plain3()
    assert not convolutions_fit_tf32(network, precision, SCHEME, images())


@pytest.mark.parametrize("role", ["weights", "activations", "activation_gradients", "input"])
def test_whatever_is_not_rounded_does_not_fit(role: str) -> None:
    network = plain3()
    scheme = replace(SCHEME, **{role: None})  # type: ignore[arg-type]
    assert not convolutions_fit_tf32(network, FITS, scheme, images())


@pytest.mark.parametrize("name", ["bfloat16", "float16", "mxfp8-e4m3", "mxfp6-e3m2", "mxfp4"])
def test_recipes_of_few_bits_and_powers_of_two_fit(name: str) -> None:
    assert convolutions_fit_tf32(plain3(), Recipe.hardware(name), SCHEME, images())


@pytest.mark.parametrize(
    "recipe",
    [
        *map(Recipe.named, ("fp8-hybrid", "nvfp4")),
        *map(Recipe.hardware, ("float32", "nvfp4", "int3@32", "int4@256/minmax")),
        Recipe.hardware("mxfp4", weights="float32"),
        Recipe.hardware("mxfp4", "int8@32"),
        replace(
            Recipe.hardware("mxfp4"),
            exemptions=(Exemption("3", {"weights": parse_format("float32")}),),
        ),
    ],
)
def test_scales_that_add_bits_do_not_fit(recipe: Recipe) -> None:
    assert not convolutions_fit_tf32(plain3(), recipe, SCHEME, images())


def test_a_sum_between_two_modules_does_not_fit() -> None:
    class Summing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.first(x)
            output: Tensor = self.second(hidden + hidden.roll(1, 0)).mean((2, 3))
            return output

    assert not convolutions_fit_tf32(Summing(), FITS, SCHEME, images())


def test_the_network_is_left_as_it_was() -> None:
    network = build_model("resnet18", 4, (3, 8, 8)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    convolutions_fit_tf32(network, FITS, SCHEME, images())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not network.training


@pytest.mark.parametrize("allowed", [True, False])
def test_the_setting_is_put_back(allowed: bool) -> None:
    before = torch.backends.cudnn.allow_tf32

    def fail() -> None:
        with convolutions_in_tf32(allowed):
            assert torch.backends.cudnn.allow_tf32 is allowed
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.backends.cudnn.allow_tf32 is before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tf32_is_exact_for_such_operands() -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    # Small integers: sums are exact in float32, too.
    x = torch.randint(-7, 8, (8, 16, 8, 8), device="cuda", generator=generator).float()
    weight = torch.randint(-7, 8, (16, 16, 3, 3), device="cuda", generator=generator).float()
    answers = []
    for allowed in (True, False):
        with convolutions_in_tf32(allowed):
            answers.append(nn.functional.conv2d(x, weight, padding=1))
    assert torch.equal(*answers)
