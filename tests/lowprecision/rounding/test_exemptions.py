from __future__ import annotations

import pytest
import torch
from torch import nn

from optuna_peppp import Recipe, parse_format
from optuna_peppp.configurations.roles import Exemption
from optuna_peppp.lowprecision import LowPrecisionModule, build_model, quantize
from optuna_peppp.lowprecision.rounding.exemptions import exempt_modules, kinds_of_modules

BFLOAT16, COARSE = parse_format("bfloat16"), parse_format("1-3-1")


def test_kinds_of_a_network_with_words() -> None:
    model = nn.ModuleDict(
        {
            "words": nn.Embedding(7, 4),
            "in": nn.Linear(4, 8),
            "norms": nn.Sequential(nn.LayerNorm(8), nn.RMSNorm(8)),
            "out": nn.Linear(8, 2),
        }
    )
    kinds = {name: set(own) for name, own in kinds_of_modules(model).items() if own}
    assert kinds == {
        "words": {"embedding"},
        "in": {"first", "penultimate"},
        "norms.0": {"norm", "penultimate"},
        "norms.1": {"norm", "penultimate"},
        "out": {"last"},
    }


def test_kinds_of_resnet18() -> None:
    kinds = kinds_of_modules(build_model("resnet18", 10, (3, 8, 8)))
    assert kinds["conv1"] == {"first"}
    assert kinds["fc"] == {"last"}
    assert sum("norm" in own for own in kinds.values()) == 20
    read = {name for name, own in kinds.items() if "penultimate" in own}
    assert read == {"layer4.1.conv2", "layer4.1.bn2", "avgpool"}


def test_who_is_exempt_by_which() -> None:
    kinds = kinds_of_modules(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)))
    assert exempt_modules(kinds, Recipe.named("nvfp4")) == {"0": 2, "1": 0, "2": 3}
    assert exempt_modules(kinds, Recipe.paper("1-4-3", "1-6-7")) == {}


def test_an_exempt_module_has_its_own_formats() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    exemption = Exemption("0", {"weights": BFLOAT16, "activations": BFLOAT16})
    recipe = Recipe({"weights": COARSE, "activations": COARSE}, exemptions=(exemption,))
    x = torch.randn(5, 6)
    weights = {
        name: quantize(p.detach(), BFLOAT16 if name.startswith("0") else COARSE)
        for name, p in model.named_parameters()
    }
    hidden = quantize(x @ weights["0.weight"].T + weights["0.bias"], BFLOAT16)
    hidden = quantize(hidden.relu(), COARSE)
    expected = hidden @ weights["2.weight"].T + weights["2.bias"]
    assert torch.equal(LowPrecisionModule(model, recipe)(x), expected)


def test_what_the_last_layer_reads_is_exempt_from_nvfp4() -> None:
    """Of what is not exempt, an output of the first of three layers has a block's few numbers."""
    torch.manual_seed(0)
    layers = nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)
    seen: dict[int, torch.Tensor] = {}
    for place in (2, 4):
        layers[place].register_forward_pre_hook(
            lambda _, inputs, place=place: seen.update({place: inputs[0].detach()})
        )
    LowPrecisionModule(nn.Sequential(*layers), Recipe.named("nvfp4"))(torch.randn(5, 6))
    assert torch.equal(seen[2], quantize(seen[2], "nvfp4"))
    assert torch.equal(seen[4], quantize(seen[4], BFLOAT16))
    assert not torch.equal(seen[4], quantize(seen[4], "nvfp4"))


def test_a_module_that_is_not_there() -> None:
    recipe = Recipe({"weights": COARSE}, exemptions=(Exemption("head", {"weights": BFLOAT16}),))
    with pytest.raises(ValueError, match=r"an exemption must name first, .* got 'head'"):
        LowPrecisionModule(nn.Linear(2, 2), recipe)
