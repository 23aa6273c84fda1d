from __future__ import annotations

import pytest
import torch
from torch import nn

from optuna_peppp.configurations.loss_scale import DynamicLossScale
from optuna_peppp.configurations.names import Backend
from optuna_peppp.configurations.notation import parse_format
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.lowprecision import LowPrecisionOptimizer, training_step
from optuna_peppp.lowprecision.simulation.dynamic_scale import DynamicScale, all_finite

RULE = DynamicLossScale(start=2.0**10, growth=2.0, backoff=0.5, interval=3)


def torchs(rule: DynamicLossScale) -> torch.amp.GradScaler:
    return torch.amp.GradScaler(
        "cpu",
        init_scale=rule.start,
        growth_factor=rule.growth,
        backoff_factor=rule.backoff,
        growth_interval=rule.interval,
    )


def test_it_moves_as_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    overflows = torch.rand(300, generator=generator) < 0.2
    # Up to where it would be infinite, and back.
    overflows = torch.cat([overflows, torch.zeros(400, dtype=torch.bool), torch.ones(200) > 0])
    weight = nn.Parameter(torch.ones(2))
    plain, scaler = torch.optim.SGD([weight], lr=0.0), torchs(RULE)
    scaler.scale(torch.ones(()))
    ours = DynamicScale.of(RULE, torch.device("cpu"))
    for overflow in overflows:
        weight.grad = torch.tensor([1.0, float("inf") if overflow else 2.0])
        ours.after(all_finite([weight.grad]))
        scaler.step(plain)
        scaler.update()
        assert float(ours.factor) == scaler.get_scale()
        assert int(ours.streak) == scaler.state_dict()["_growth_tracker"]


def test_a_loop_is_that_of_torch() -> None:
    """Adam, whose count of steps must not move in a step that is skipped."""
    recipe = Recipe({}, loss_scale=RULE)
    ours, theirs = (nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    update = LowPrecisionOptimizer(torch.optim.Adam([ours], lr=0.1), recipe)
    plain, scaler = torch.optim.Adam([theirs], lr=0.1), torchs(RULE)
    for step in range(12):
        large = 1e38 if step in (0, 4, 5) else 1.0
        update.zero_grad()
        plain.zero_grad()
        torch.autograd.backward(update.scale((ours * large).square().sum()))
        update.step()
        torch.autograd.backward(scaler.scale((theirs * large).square().sum()))
        scaler.step(plain)
        scaler.update()
        assert torch.equal(ours, theirs)
        assert update.dynamic_scale is not None
        assert float(update.dynamic_scale.factor) == scaler.get_scale()
        assert update.has_updated is (step > 0)


@pytest.mark.parametrize("scaled", [False, True])
def test_what_overflows_as_it_is_rounded_is_seen(scaled: bool) -> None:
    # 1-4-3b4 holds up to 30: a gradient of 20 carries 2^10 beyond that.
    recipe = Recipe(
        {"weight_gradients": parse_format("1-4-3b4")}, loss_scale=RULE, scaled_gradients=scaled
    )
    weight = nn.Parameter(torch.zeros(2))
    update = LowPrecisionOptimizer(torch.optim.SGD([weight], lr=1.0), recipe)
    for factor, skipped in ((20.0, scaled), (40.0, True)):
        update.zero_grad()
        before = weight.detach().clone()
        torch.autograd.backward(update.scale((weight * factor).sum()))
        update.step()
        assert torch.equal(weight, before if skipped else before - factor)
    assert update.dynamic_scale is not None
    assert float(update.dynamic_scale.factor) == 2.0 ** (8 if scaled else 9)


@pytest.mark.parametrize("backend", ["eager", "compiled"])
@pytest.mark.usefixtures("traced")
def test_gradients_are_rounded_with_the_scale_or_without(backend: Backend) -> None:
    # 0.7 times 1000, with one bit of the mantissa, is 768, and without 0.75: both exactly.
    found = []
    for scaled in (False, True):
        layer = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(layer.weight)
        recipe = Recipe(
            {"weight_gradients": parse_format("1-8-1")}, loss_scale=1000.0, scaled_gradients=scaled
        )
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        step = training_step(layer, optimizer, torch.sum, recipe, backend=backend)
        for _ in range(2):  # the first is eager
            step(torch.tensor([[0.7]]))
        found.append(layer.weight.item())
    assert found == pytest.approx([-2 * 0.75, -2 * 0.768], rel=1e-6)


def test_what_is_finite() -> None:
    for bad in (float("inf"), float("-inf"), float("nan")):
        assert not all_finite([torch.ones(3), torch.tensor([1.0, bad])])
    assert all_finite([torch.full((2,), 3e38), torch.ones(2)])
