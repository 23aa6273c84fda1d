from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from optuna_peppp.configurations.names import NETWORKS, Network
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.sites import INPUT, Parameter, Site
from optuna_peppp.lowprecision import LowPrecisionModule, build_model, groups, quantize


def test_by_hand() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    found = groups(model, torch.zeros(7, 4))
    assert found.sites == (
        Site(INPUT, 28, 0),
        Site(("0", 0), 35, 1, True, frozenset({0})),
        Site(("1", 0), 35, 1, False, frozenset({1})),
        Site(("2", 0), 21, 2, True, frozenset({2})),
    )
    assert found.parameters == {
        "0.weight": Parameter(20, 0, frozenset({1})),
        "0.bias": Parameter(5, 0, frozenset({1})),
        "2.weight": Parameter(15, 1, frozenset({3})),
        "2.bias": Parameter(3, 1, frozenset({3})),
    }
    assert found.sizes == (106, 176, 42)


class Block(nn.Module):
    """A product between two calls of one module, a sum, and a view that a module returns."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(4))
        self.relu = nn.ReLU(inplace=True)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.flatten = nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.first(x))
        y = self.relu(self.second(y) + self.bias) + x
        result: Tensor = self.flatten(y)
        return result


def test_calls_views_and_parameters_of_containers() -> None:
    found = groups(nn.Sequential(Block(), nn.BatchNorm1d(4)), torch.zeros(2, 4))
    assert [site.call for site in found.sites] == [
        *(INPUT, ("0.first", 0), ("0.relu", 0), ("0.second", 0), ("0.relu", 1)),
        # The sum that the view is of has no site, so that the view is one.
        *(("0.flatten", 0), ("1", 0)),
    ]
    assert [site.group for site in found.sites] == [0, 1, 1, 2, 2, 2, 2]
    assert found.calls["0", 0] == found.calls["0.flatten", 0] == 5
    assert found.parameters["0.bias"].group == 2
    assert found.parameters["0.second.weight"].group == 1
    assert found.parameters["1.weight"].group == 2


def test_views_and_copies_of_a_site_are_that_site() -> None:
    class Turned(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.transpose(1, 2).reshape(x.shape)

    model = nn.Sequential(nn.Conv1d(2, 4, 1), Turned(), nn.Identity(), nn.Flatten())
    found = groups(model, torch.zeros(3, 2, 5))
    assert [site.call for site in found.sites] == [INPUT, ("0", 0)]
    assert set(found.calls.values()) == {0, 1}


def test_a_shared_parameter_belongs_to_its_first_reader() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.out = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
            self.middle = nn.Linear(4, 4)
            self.out.weight = self.words.weight

        def forward(self, tokens: Tensor) -> Tensor:
            result: Tensor = self.out(self.middle(self.words(tokens)))
            return result

    found = groups(Tied(), torch.zeros(2, 3, dtype=torch.long))
    assert found.sites[0].numbers == 0  # integers are not rounded
    assert list(found.parameters) == ["words.weight", "middle.weight", "middle.bias"]
    assert found.parameters["words.weight"] == Parameter(36, 0, frozenset({1, 3}))


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "gpt"])  # of images
def test_every_site_and_parameter_is_in_one_group(name: Network) -> None:
    shape = (3, 64, 64)
    model = build_model(name, 10, shape)
    found = groups(model, torch.zeros(2, *shape))
    assert set(found.parameters) == {name for name, _ in model.named_parameters()}
    counts = [site.numbers for site in found.sites]
    counts += [parameter.numbers for parameter in found.parameters.values()]
    assert sum(found.sizes) == 2 * sum(counts)
    assert sorted({site.group for site in found.sites}) == list(range(len(found.sizes)))
    assert [site.group for site in found.sites] == sorted(site.group for site in found.sites)


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (nn.Sequential(Block(), nn.BatchNorm1d(4)), torch.randn(3, 4)),
        (build_model("resnet20", 5, (3, 16, 16)), torch.randn(2, 3, 16, 16)),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(2, 3, 8)),
    ],
    ids=["block", "resnet20", "transformer"],
)
def test_calls_are_those_that_a_training_rounds(
    model: nn.Module, inputs: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = LowPrecisionModule(model, Recipe.named("bfloat16"))
    seen: list[Any] = []
    hook = module.outputs._hook

    def recorded(name: str, *call: Any) -> Any:
        result = hook(name, *call)
        seen.append((name, module.outputs._calls[name] - 1))
        return result

    monkeypatch.setattr(module.outputs, "_hook", recorded)
    module(inputs)
    assert [call for call in groups(model, inputs).calls if call != INPUT] == seen


def test_named_and_several_inputs() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Bilinear(2, 3, 4)

        def forward(self, x: Tensor, *, y: Tensor) -> Tensor:
            result: Tensor = self.layer(x, y)
            return result

    found = groups(Both(), {"x": torch.zeros(5, 2), "y": torch.zeros(5, 3)})
    assert found.sites[0] == Site(INPUT, 25, 0)
    assert found.sizes == (2 * 25 + 2 * 28, 40)


def test_what_does_not_run_is_refused() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as problem:
        groups(nn.Linear(3, 4), torch.zeros(2, 5))
    assert "Linear raised when its groups were sought" in problem.value.__notes__[0]
    with pytest.raises(RuntimeError, match="must have same reduction dim"):
        groups(nn.Linear(3, 4), torch.empty(2, 5, device="meta"))


def test_the_model_is_left_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    groups(model, torch.ones(4, 3))
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_what_memory_keeps_of_every_group() -> None:
    model = build_model("plain3", 5, (3, 16, 16))
    found = groups(model, torch.empty(32, 3, 16, 16, device="meta"))
    weights = [0] * 5
    for parameter in found.parameters.values():
        weights[parameter.group] += parameter.numbers
    saved = [kept - own for kept, own in zip(found.kept, weights, strict=True)]
    assert saved == [24576, 262272, 131328, 74240, 0]


def test_the_order_of_what_is_saved_is_another() -> None:
    found = groups(build_model("resnet20", 5, (3, 32, 32)), torch.empty(32, 3, 32, 32))
    sizes, kept = found.sizes, found.kept
    assert sorted(range(23), key=lambda group: (-sizes[group], group)).index(9) == 13
    assert sorted(range(23), key=lambda group: (-kept[group], group)).index(9) == 19
    # Without a backward pass to come, too.
    with torch.no_grad():
        assert groups(nn.Linear(3, 2), torch.empty(4, 3)).kept == (3 * 2 + 2 + 4 * 3,)


class _Joined(nn.Module):
    """Two branches, summed and put side by side, by modules or by functions."""

    def __init__(self, by_modules: bool) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(8, 2)
        self.add, self.cat = _Add(), _Cat()
        self.by_modules = by_modules

    def forward(self, x: Tensor) -> Tensor:
        one = self.first(x)
        other = self.second(one)
        if self.by_modules:
            y = self.cat(self.add(one, other), other)
        else:
            y = torch.cat([one + other, other], 1)
        result: Tensor = self.last(y)
        return result


class _Add(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class _Cat(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([x, y], 1)


def test_operators_are_sites_as_modules_are() -> None:
    x = torch.empty(3, 4)
    expected = groups(_Joined(True), x)
    found = groups(_Joined(False), x, "operators")
    assert found.sizes == expected.sizes
    assert found.kept == expected.kept
    assert found.parameters == expected.parameters
    named = {("add", 0): ("", 0), ("cat", 0): ("", 1)}
    assert [site.call for site in found.sites] == [
        named.get(site.call, site.call) for site in expected.sites
    ]
    assert [site.reads for site in found.sites] == [site.reads for site in expected.sites]
    assert ("", 0) not in groups(_Joined(False), x).calls
    with pytest.raises(ValueError, match="sites must be"):
        groups(_Joined(False), x, "functions")  # type: ignore[arg-type]


def test_what_a_rule_demotes_of_operators_is_rounded() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4)
    joined = _Joined(False)
    # Of three groups the second, which holds sum and concatenation, is by far the largest.
    recipe = Recipe.assigned("1-3-1", "1-8-23", "1-8-23", demotion=0.1)
    recipe = replace(recipe, sites="operators")
    found = groups(joined, x, "operators")
    low = recipe.rule.of(found)  # type: ignore[union-attr]
    assert {found.calls["", 0], found.calls["", 1]} <= low.activations
    module = LowPrecisionModule(joined, recipe)
    seen: list[Any] = []
    joined.last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module(x)
    assert torch.equal(seen[0], quantize(seen[0], "1-3-1"))
    other = quantize(joined.second(joined.first(x)), "1-3-1")
    summed = quantize(joined.first(x) + other, "1-3-1")
    assert torch.equal(seen[0], torch.cat([summed, other], 1))
