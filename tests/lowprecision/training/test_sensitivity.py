from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.lowprecision import groups, quantize, sensitivities, sensitivity_order


def test_what_one_group_alone_changes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    before = copy.deepcopy(model.state_dict())
    x, labels = torch.randn(7, 4), torch.randint(3, (7,))
    loss = nn.functional.cross_entropy
    # High and all of Format B is float32: what is left is one group in the lower format.
    recipe = Recipe.assigned("1-4-1", "1-8-23", "1-8-23", promotion=0.5)
    found = sensitivities(model, x, labels, loss, recipe)
    assert len(found) == 3
    assert found[2] == 0.0  # the logits alone, which are none of the activations

    def passes(network: nn.Module) -> tuple[float, torch.Tensor]:
        network.zero_grad()
        value = loss(network(x), labels)
        value.backward()  # type: ignore[no-untyped-call]
        return value.item(), torch.cat([p.grad.flatten() for p in network.parameters()])  # type: ignore[union-attr]

    whole, direction = passes(model)
    low = copy.deepcopy(model)
    with torch.no_grad():  # group 0 is the input, which is none of them, and the first weights
        for p in low[0].parameters():
            p.copy_(quantize(p, "1-4-1"))
    other, gradient = passes(low)
    change = abs(other - whole) / whole + (gradient - direction).norm() / direction.norm()
    assert found[0] == pytest.approx(float(change), rel=1e-5)
    # Kept are 28 inputs and 25 weights; 35 outputs of the ReLU and 18 weights; the logits.
    kept = groups(model, x).kept
    assert kept == (28 + 25, 35 + 18, 0)
    first = int(found[1] < found[0])
    expected = f"2-{first}-{1 - first}"
    assert sensitivity_order(model, x, labels, loss, recipe) == expected
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_a_rule_is_needed() -> None:
    recipe = Recipe.paper("1-4-1", "1-6-9")
    with pytest.raises(ValueError, match="recipe must have a rule"):
        sensitivities(nn.Linear(2, 2), torch.ones(1, 2), None, lambda y, _: y.sum(), recipe)
