from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import checkpoint as module
from torch.utils.checkpoint import (
    checkpoint,
    checkpoint_sequential,
    create_selective_checkpoint_contexts,
)

from optuna_peppp.configurations.precision import Precision
from optuna_peppp.lowprecision import LowPrecisionModule, Quantizer, RoundingScheme
from optuna_peppp.lowprecision.rounding.quantize import ROUNDINGS, Rounding

# Torch says so of a reentrant checkpoint within another, whose forward pass makes no graph.
pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")

PRECISION = Precision.parse("1-3-1", "1-6-7")
X = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
Checkpoint = Callable[..., Tensor]

SELECTED = functools.partial(create_selective_checkpoint_contexts, [torch.ops.aten.addmm.default])
MODES: dict[str, Checkpoint] = {
    "not reentrant": functools.partial(checkpoint, use_reentrant=False),
    "reentrant": functools.partial(checkpoint, use_reentrant=True),
    "to the end": functools.partial(checkpoint, use_reentrant=False, early_stop=False),
    "selective": functools.partial(checkpoint, use_reentrant=False, context_fn=SELECTED),
}


class Network(nn.Module):
    """Calls its parts as a function of the test says."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.block = nn.Sequential(
            nn.Linear(16, 32), nn.Tanh(), nn.Dropout(0.3), nn.Linear(32, 16), nn.Tanh()
        )
        self.in_place = nn.Sequential(nn.Linear(16, 16), nn.ReLU(inplace=True), nn.Linear(16, 16))
        self.tanh, self.head = nn.Tanh(), nn.Linear(16, 3)
        self.run = run

    def with_weights(self, x: Tensor) -> Tensor:
        """No module is called, but its weights are read."""
        weight: Any = self.in_place[0].weight
        result: Tensor = self.tanh(nn.functional.linear(x, weight) + self.in_place[2](x))
        return result

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, self.first(x))


def plain(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    return function(*arguments)


def blocks(again: Checkpoint, n: Any, x: Tensor) -> Tensor:
    logits: Tensor = n.head(again(n.in_place, again(n.block, x)))
    return logits


def with_the_last_module(again: Checkpoint, n: Any, x: Tensor) -> Tensor:
    return again(lambda y: n.head(n.tanh(n.block(y))), n.tanh(x))


def nested(again: Checkpoint, n: Any, x: Tensor) -> Tensor:
    logits: Tensor = n.head(again(lambda y: n.tanh(again(n.in_place, again(n.block, y))), x))
    return logits


def a_method(again: Checkpoint, n: Any, x: Tensor) -> Tensor:
    logits: Tensor = n.head(n.tanh(again(n.with_weights, n.tanh(x))))
    return logits


def one_module_twice(again: Checkpoint, n: Any, x: Tensor) -> Tensor:
    logits: Tensor = n.head(again(n.block, again(n.block, x)) + x)
    return logits


def trained(
    run: Callable[[Checkpoint, Any, Tensor], Tensor],
    again: Checkpoint,
    rounding: Rounding,
    passes: int = 1,
) -> list[Tensor | None]:
    """Logits and gradients of one backward pass through several passes."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = Network(functools.partial(run, again))
        scheme, generator = RoundingScheme(rounding=rounding), torch.Generator().manual_seed(0)
        low = LowPrecisionModule(network, Quantizer(PRECISION, scheme, generator))
        outputs = [low(X * (1 + place)) for place in range(passes)]
        torch.autograd.backward(torch.stack(outputs).square().sum())
    return [*(output.detach() for output in outputs), *(p.grad for p in network.parameters())]


def same(ours: list[Tensor | None], theirs: list[Tensor | None]) -> bool:
    pairs = list(zip(ours, theirs, strict=True))
    assert sum(a is not None and bool(a.any()) for a, _ in pairs) > len(pairs) // 2
    return all(
        a is b if a is None or b is None else torch.equal(a, b)  # the same numbers, to the bit
        for a, b in pairs
    )


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("run", [blocks, with_the_last_module, nested, a_method, one_module_twice])
def test_gradients_are_those_without(run: Any, mode: str, rounding: Rounding) -> None:
    assert same(trained(run, MODES[mode], rounding), trained(run, plain, rounding))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("mode", ["not reentrant", "reentrant"])
def test_every_part_goes_on_with_its_own_pass(mode: str, rounding: Rounding) -> None:
    assert same(trained(blocks, MODES[mode], rounding, 2), trained(blocks, plain, rounding, 2))


@pytest.mark.parametrize("reentrant", [False, True])
def test_segments_of_a_sequence(reentrant: bool) -> None:
    def segments(again: Checkpoint, n: Any, x: Tensor) -> Tensor:
        if again is not plain:
            x = checkpoint_sequential(n.block, 2, x, use_reentrant=reentrant)  # type: ignore[no-untyped-call]
        else:
            x = n.block(x)
        logits: Tensor = n.head(x)
        return logits

    ours = trained(segments, MODES["reentrant"], "stochastic")
    assert same(ours, trained(segments, plain, "stochastic"))


@pytest.mark.parametrize("mode", ["not reentrant", "reentrant"])
def test_a_graph_that_is_kept_is_computed_twice_alike(mode: str) -> None:
    network = Network(functools.partial(nested, MODES[mode]))
    scheme, generator = RoundingScheme(rounding="stochastic"), torch.Generator().manual_seed(0)
    logits = LowPrecisionModule(network.eval(), Quantizer(PRECISION, scheme, generator))(X)
    gradients = []
    for keep in (True, False):
        network.zero_grad()
        logits.sum().backward(retain_graph=keep)
        gradients.append([p.grad for p in network.parameters()])
    assert same(*gradients)


def test_second_derivatives() -> None:
    answers = []
    for again in (plain, MODES["not reentrant"]):
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            network = Network(functools.partial(blocks, again))
            scheme, generator = RoundingScheme(rounding="stochastic"), torch.Generator()
            low = LowPrecisionModule(
                network, Quantizer(PRECISION, scheme, generator.manual_seed(0))
            )
            x = X.clone().requires_grad_()
            (slope,) = torch.autograd.grad(low(x).sum(), x, create_graph=True)
            torch.autograd.backward(slope.square().sum())
        answers.append([slope.detach(), *(p.grad for p in network.parameters())])
    assert same(*answers)


def test_nothing_is_left_behind() -> None:
    before = module._CheckpointFrame, module.CheckpointFunction
    network = Network(functools.partial(blocks, MODES["not reentrant"]))
    weight = network.first.weight
    low = LowPrecisionModule(network, Quantizer(PRECISION))
    logits = low(X)
    assert (module._CheckpointFrame, module.CheckpointFunction) == before
    logits.sum().backward()
    assert (module._CheckpointFrame, module.CheckpointFunction) == before
    assert network.first.weight is weight
    assert not any(m._forward_hooks for m in network.modules())
    assert not low.outputs.running
    with pytest.raises(RuntimeError, match="shapes"):
        low(X[:, :3])
    assert (module._CheckpointFrame, module.CheckpointFunction) == before


def test_another_network_within_the_pass_is_left_alone() -> None:
    """Only what the pass computes is taken up again by it."""
    other = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
    x = X.clone().requires_grad_()
    LowPrecisionModule(nn.Linear(8, 3), Quantizer(PRECISION))(x)
    checkpoint(other, x, use_reentrant=False).sum().backward()
    ours = [p.grad for p in other.parameters()]
    other.zero_grad()
    other(x).sum().backward()
    assert same(ours, [p.grad for p in other.parameters()])


def test_threads_keep_their_passes_apart() -> None:
    def work() -> None:
        for _ in range(5):
            low = LowPrecisionModule(networks.pop(), Quantizer(PRECISION))
            low(X).square().sum().backward()
            done.append([p.grad for p in low.parameters()])

    def network(again: Checkpoint) -> nn.Module:
        made = Network(functools.partial(nested, again)).eval()  # threads share dropout's numbers
        made.load_state_dict(weights)
        return made

    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = Network(functools.partial(nested, plain)).state_dict()
    networks = [network(MODES[mode]) for mode in ("not reentrant", "reentrant") for _ in range(10)]
    done: list[list[Tensor | None]] = []
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    low = LowPrecisionModule(network(plain), Quantizer(PRECISION))
    low(X).square().sum().backward()
    assert len(done) == 20
    assert all(same(gradients, [p.grad for p in low.parameters()]) for gradients in done)


@pytest.mark.parametrize("mode", ["not reentrant", "reentrant"])
def test_a_whole_module_cannot_draw_its_numbers_again(mode: str) -> None:
    network, x = nn.Sequential(nn.Linear(8, 3), nn.Tanh()), X.clone().requires_grad_()
    scheme = RoundingScheme(rounding="stochastic")
    low = LowPrecisionModule(network, Quantizer(PRECISION, scheme, torch.Generator()))
    logits = MODES[mode](low, x)
    with pytest.raises(RuntimeError, match="make its Quantizer without a generator"):
        torch.autograd.backward(logits.sum())


@pytest.mark.parametrize("mode", ["not reentrant", "reentrant"])
def test_a_whole_module_with_the_global_generator(mode: str) -> None:
    scheme = RoundingScheme(rounding="stochastic")
    gradients = []
    for again in (MODES[mode], plain):
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            network, x = nn.Sequential(nn.Linear(8, 3), nn.Tanh()), X.clone().requires_grad_()
            low = LowPrecisionModule(network, Quantizer(PRECISION, scheme))
            torch.autograd.backward(again(low, x).square().sum())
        gradients.append([x.grad, *(p.grad for p in network.parameters())])
    assert same(*gradients)
