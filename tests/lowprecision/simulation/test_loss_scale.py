from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from optuna_peppp.lowprecision.simulation.loss_scale import scaled

SCALE = 1024.0  # of two, so that nothing is rounded


def network() -> nn.Sequential:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def images() -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def hooks(model: nn.Module) -> int:
    return sum(len(p._backward_hooks or ()) for p in model.parameters())


Loss = Callable[[nn.Module, Callable[[Tensor], Tensor]], None]


def plain(model: nn.Module, scale: Callable[[Tensor], Tensor]) -> None:
    scale(model(images()).square().mean()).backward()  # type: ignore[no-untyped-call]


def over_several_passes(model: nn.Module, scale: Callable[[Tensor], Tensor]) -> None:
    for part in torch.split(images(), 2):
        (scale(model(part).square().mean()) / 3).backward()  # type: ignore[no-untyped-call]


def only_some_of_them_scaled(model: nn.Module, scale: Callable[[Tensor], Tensor]) -> None:
    plain(model, scale)
    plain(model, lambda loss: loss)


def twice_through_a_graph(model: nn.Module, scale: Callable[[Tensor], Tensor]) -> None:
    loss = scale(model(images()).square().mean())
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    loss.backward()  # type: ignore[no-untyped-call]


def a_sum_of_scaled_losses(model: nn.Module, scale: Callable[[Tensor], Tensor]) -> None:
    output = model(images())
    torch.autograd.backward(scale(output.square().mean()) + scale(output.sum()))


def through_autograd_grad(model: nn.Module, scale: Callable[[Tensor], Tensor]) -> None:
    parameters = list(model.parameters())
    loss = scale(model(images()).square().mean())
    for p, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        p.grad = gradient


def with_a_gradient_penalty(model: nn.Module, scale: Callable[[Tensor], Tensor]) -> None:
    inputs = images().requires_grad_()
    loss = model(inputs).square().mean()
    (gradient,) = torch.autograd.grad(scale(loss), inputs, create_graph=True)
    scale(loss + gradient.square().sum()).backward()  # type: ignore[no-untyped-call]


def checkpointed(reentrant: bool) -> Loss:
    def through(model: nn.Module, scale: Callable[[Tensor], Tensor]) -> None:
        inputs = images().requires_grad_()
        output = checkpoint(model, inputs, use_reentrant=reentrant)
        scale(output.square().mean()).backward()  # type: ignore[no-untyped-call]

    through.__name__ = f"checkpointed-{reentrant}"
    return through


def under_a_hook_that_clips(model: nn.Module, scale: Callable[[Tensor], Tensor]) -> None:
    handles = [
        p.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))  # type: ignore[no-untyped-call]
        for p in model.parameters()
    ]
    plain(model, scale)
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize(
    "loss",
    [
        plain,
        over_several_passes,
        only_some_of_them_scaled,
        twice_through_a_graph,
        a_sum_of_scaled_losses,
        through_autograd_grad,
        with_a_gradient_penalty,
        checkpointed(False),
        checkpointed(True),
        under_a_hook_that_clips,
    ],
    ids=lambda loss: loss.__name__,
)
def test_gradients_are_those_without_a_scale(loss: Loss) -> None:
    ours, theirs = network(), network()
    loss(ours, lambda value: scaled(value, SCALE, ours.parameters))
    loss(theirs, lambda value: value)
    assert len(gradients(ours)) == 4
    assert all(map(torch.equal, gradients(ours), gradients(theirs)))
    assert hooks(ours) == 0


def test_on_its_way_a_gradient_carries_the_scale() -> None:
    model = network()
    seen: list[Tensor] = []
    output = model(images())
    output.register_hook(seen.append)
    scaled(output.sum(), SCALE, model.parameters).backward()  # type: ignore[no-untyped-call]
    assert torch.equal(seen[0], torch.full((6, 3), SCALE))


def test_leaves_of_others_are_reached_too() -> None:
    """Of another optimizer, and inputs."""
    first, second, inputs = network(), nn.Linear(3, 2), images().requires_grad_()
    scaled(second(first(inputs)).sum(), SCALE, second.parameters).backward()  # type: ignore[no-untyped-call]
    ours = [*gradients(first), *gradients(second), inputs.grad]
    twins = copy.deepcopy(first), copy.deepcopy(second)
    for twin in twins:
        twin.zero_grad()
    again = images().requires_grad_()
    twins[1](twins[0](again)).sum().backward()
    theirs = [*gradients(twins[0]), *gradients(twins[1]), again.grad]
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))  # type: ignore[arg-type]


def test_a_leaf_without_influence_has_no_gradient() -> None:
    class First(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
            return gradient, None

    used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    loss = First.apply(used, unused).sum()
    scaled(loss, SCALE, lambda: [used, unused]).backward()  # type: ignore[no-untyped-call]
    assert used.grad is not None
    assert torch.equal(used.grad, torch.ones(2))
    assert unused.grad is None


class Refuses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise RuntimeError("no memory")


def test_a_failed_pass_leaves_nothing_behind() -> None:
    model = network()
    hidden = Refuses.apply(model[0](images()))
    with pytest.raises(RuntimeError, match="no memory"):
        scaled(model[2](hidden).sum(), SCALE, model.parameters).backward()  # type: ignore[no-untyped-call]
    assert hooks(model) == 0
    model.zero_grad()
    plain(model, lambda loss: loss)
    expected = network()
    plain(expected, lambda loss: loss)
    assert all(map(torch.equal, gradients(model), gradients(expected)))


def test_a_loss_is_scaled_once() -> None:
    model = network()

    def scale(loss: Tensor, by: float = SCALE) -> Tensor:
        return scaled(loss, by, model.parameters)

    with pytest.raises(ValueError, match="a loss must be scaled once"):
        scale(scale(model(images()).sum())).backward()  # type: ignore[no-untyped-call]
    output = model(images())
    with pytest.raises(ValueError, match=r"one loss scale; got .*: scale the sum"):
        torch.autograd.backward(scale(output.sum()) + scale(output.square().sum(), 2.0))
    assert hooks(model) == 0


def test_without_gradients_it_is_a_product() -> None:
    with torch.no_grad():
        assert scaled(torch.tensor(3.0), 10.0, list).item() == 30
