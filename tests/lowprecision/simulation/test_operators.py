"""Functions that compute between modules, rounded where a recipe's sites are operators."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.roles import Exemption
from optuna_peppp.lowprecision import LowPrecisionModule, Quantizer, training_memory
from optuna_peppp.lowprecision.rounding.operators import Operators, call
from optuna_peppp.lowprecision.rounding.quantize import ROUNDINGS, Rounding, quantize
from optuna_peppp.lowprecision.training.own_loop import training_step

STEP: Any = importlib.import_module("optuna_peppp.lowprecision.training.compiled_step")
A, B = "1-3-1", "1-6-9"


def recipe(rounding: Rounding = "nearest", **changes: Any) -> Recipe:
    return replace(Recipe.paper(A, B, rounding), **{"sites": "operators", **changes})


def low(module: nn.Module, recipe: Recipe) -> LowPrecisionModule:
    return LowPrecisionModule(module, Quantizer(recipe, generator=torch.Generator().manual_seed(0)))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Functions(nn.Module):
    """Calls two linear layers, and a function between them."""

    def __init__(self, function: Callable[..., Any], width: int = 8) -> None:
        super().__init__()
        self.function = function
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.function(self.first(x), x))


def identities(network: Functions) -> Functions:
    for layer in (network.first, network.last):
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    return network


def gradients(network: nn.Module, x: Tensor) -> list[Tensor]:
    output = network(x)
    output.square().sum().backward()
    found = [output.detach(), *(p.grad for p in network.parameters() if p.grad is not None)]
    network.zero_grad()
    return found


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize(
    ("sites", "output", "gradient"),
    # 1-3-1 holds 1, 1.5, 2, 3, 4, 6: 2.5 becomes 3, and 3 + 2.5 becomes 6 where the sum is a site.
    # 1.1 is 563/512 in 1-6-9, and 1 in 1-3-1: the gradient of the sum, which both branches get.
    [("operators", 6.0, 1.0 + 1.0), ("modules", 5.5, 563 / 512 + 1.0)],
)
def test_a_residual_sum_by_hand(sites: str, output: float, gradient: float) -> None:
    network = identities(Functions(lambda h, x: F.relu(h + x), 1))
    x = torch.tensor([[2.5]], requires_grad=True)
    found = low(network, recipe(sites=sites, loss_scale=1.0))(x)
    (found * 1.1).sum().backward()
    assert x.grad is not None
    assert (found.item(), x.grad.item()) == (output, gradient)


def test_attention_by_hand() -> None:
    def q(x: Tensor) -> Tensor:
        return quantize(x, A)

    x = random(1, 3, 4)
    network = identities(Functions(lambda h, x: F.scaled_dot_product_attention(h, h, h), 4))
    h = q(quantize(x, B))
    scores = q(h @ h.mT / 2)
    expected = quantize(q(q(scores.softmax(-1)) @ h), B)
    assert torch.equal(low(network, recipe())(x), expected)


SEEN = torch.tensor([[True, False, False], [True, True, False], [False, False, False]])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attn_mask": SEEN},
        {"attn_mask": random(3, 3).masked_fill(~SEEN, -torch.inf), "scale": 0.3},
        {"is_causal": True},
    ],
)
def test_attention_written_out_is_that_of_torch(options: dict[str, Any]) -> None:
    query, key = random(2, 4, 3, 8), random(2, 4, 3, 8, seed=1)
    expected = F.scaled_dot_product_attention(query, key, key, **options)
    grouped = F.scaled_dot_product_attention(query, key[:, :2], key[:, :2], enable_gqa=True)
    with Operators(call):
        found = F.scaled_dot_product_attention(query, key, key, **options)
        of_groups = F.scaled_dot_product_attention(query, key[:, :2], key[:, :2], enable_gqa=True)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(of_groups, grouped)


@pytest.mark.parametrize("weights", [True, False])
def test_multi_head_attention_has_its_operators_rounded(weights: bool) -> None:
    attention, x = nn.MultiheadAttention(8, 2, batch_first=True), random(2, 3, 8)
    padding = torch.tensor([[False, False, True], [False, False, False]])
    options = {"key_padding_mask": padding, "need_weights": weights}
    called: list[str] = []

    def noted(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        called.append(function.__name__)
        return function(*args, **kwargs)

    with Operators(noted):
        found, _ = attention(x, x, x, **options)
    torch.testing.assert_close(found, attention(x, x, x, **options)[0])
    products = ["baddbmm", "softmax", "bmm"] if weights else ["_scores", "_probabilities", "matmul"]
    assert [name for name in called if name in (*products, "linear")] == [
        *("linear", *products, "linear")
    ]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_a_network_of_modules_alone_is_what_it_was(rounding: Rounding) -> None:
    network = nn.Sequential(
        nn.Linear(8, 8), nn.ReLU(inplace=True), nn.BatchNorm1d(8), nn.Linear(8, 3)
    )
    results = [
        gradients(low(network, recipe(rounding, sites=sites)), random(4, 8))
        for sites in ("modules", "operators")
    ]
    assert equal(*results)


def in_place(h: Tensor, x: Tensor) -> Tensor:
    h += x
    alias = h.view(-1)
    F.relu_(h)
    h.sigmoid_()
    return alias.view(x.shape)


def test_what_changes_in_place_is_rounded_in_place() -> None:
    plain = Functions(lambda h, x: torch.sigmoid(F.relu(h + x)))
    x = random(4, 8)
    assert equal(
        gradients(low(Functions(in_place), recipe()), x), gradients(low(plain, recipe()), x)
    )


def test_several_results_are_rounded_and_views_are_none() -> None:
    network = identities(
        Functions(lambda h, x: torch.cat(torch.chunk(h + x, 2, -1)[::-1], -1).topk(8)[0])
    )
    seen: list[Tensor] = []
    network.last.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    x = random(4, 8)
    low(network, recipe())(x)
    summed = quantize(quantize(network.first(quantize(x, B)), A) + quantize(x, B), A)
    assert torch.equal(seen[-1], torch.sort(summed, -1, descending=True)[0])


class Positions(nn.Module):
    """Angles of positions, a mask of the past, and a running mean, which is a buffer."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.angles: list[Tensor] = []
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        angle = torch.arange(3).float()[:, None] * 0.3 + 1.1
        self.angles.append(angle)
        h = self.layer(x + angle.sin())
        self.mean.mul_(0.9).add_(0.123)
        return self.layer(h - self.mean)


def test_constants_and_buffers_stay_as_they_are() -> None:
    network = Positions()
    low(network, recipe())(random(2, 3, 4))
    assert torch.equal(network.angles[-1], torch.arange(3).float()[:, None] * 0.3 + 1.1)
    assert network.mean.item() == pytest.approx(0.123, abs=1e-7)


class Scores(nn.Module):
    """Logits by functions of two modules' results, an auxiliary output, and weights tied."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = F.relu(self.first(x))
        return {"logits": 0.3 * F.linear(self.second(h), self.first.weight) + 0.7, "hidden": h * 3}


def test_functions_that_follow_the_last_product_are_logits() -> None:
    torch.manual_seed(0)
    module = low(Scores(), recipe())
    output = module(random(2, 4))
    # Of operators: relu, linear, the two of the logits, and h * 3; only relu and what is read are
    # activations.
    assert module._roles[True].logits == {("", n) for n in (1, 2, 3, 4)}
    for tensor in output.values():
        assert torch.equal(tensor, quantize(tensor, B))
        assert not torch.equal(tensor, quantize(tensor, A))


class Norm(nn.Module):
    """A norm of one's own, whose functions have its formats."""

    def forward(self, x: Tensor) -> Tensor:
        return x / x.square().mean(-1, keepdim=True).sqrt()


def test_operators_have_the_formats_of_the_module_that_calls_them() -> None:
    seen: list[Tensor] = []
    network = nn.Sequential(nn.Linear(8, 8), Norm(), nn.Linear(8, 2))
    network[2].register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    high = Exemption("norm", {"activations": Recipe.paper(A, B)["input"]})
    low(network, recipe(exemptions=(high,)))(random(4, 8))
    assert torch.equal(seen[-1], quantize(seen[-1], B))
    assert not torch.equal(seen[-1], quantize(seen[-1], A))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_computes_operators_again_as_they_were(
    reentrant: bool, rounding: Rounding
) -> None:
    def function(h: Tensor, x: Tensor) -> Tensor:
        h = F.gelu(h + x)
        h += x
        return torch.cat([h, x], -1)[:, 4:12].softmax(-1)

    x, own = random(4, 8), functools.partial(checkpoint, function, use_reentrant=reentrant)
    results = [gradients(low(Functions(one), recipe(rounding)), x) for one in (function, own)]
    assert equal(*results)


class Block(nn.Module):
    """Attention with padding, residual sums in place, dropout, and a dictionary of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor, padding: Tensor) -> dict[str, Tensor]:
        h = self.attention(x, x, x, key_padding_mask=padding, need_weights=False)[0]
        h += x
        h = F.dropout(torch.cat([F.relu(h), x], -1), 0.2, self.training)
        return {"logits": self.head(h.mean(1))}


def test_the_compiled_step_is_the_eager_one(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(STEP._training_step, dynamic=False, fullgraph=True, backend=counter)
    monkeypatch.setattr(STEP, "_compiled", lambda: compiled)
    x, padding = random(2, 3, 8), torch.tensor([[False, False, True], [False, False, False]])

    def run(backend: Any) -> list[float]:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            model = Block()
            optimizer = torch.optim.SGD(model.parameters(), lr=2**-4)
            step = training_step(
                model,
                optimizer,
                lambda output, y: F.cross_entropy(output["logits"], y),
                recipe("stochastic"),
                seed=0,
                backend=backend,
            )
            return [float(step((x, padding), torch.tensor([0, 2]))) for _ in range(4)]

    assert run("compiled") == run("eager")
    assert counter.frame_count == 1


def test_memory_counts_attention_as_it_is_rounded() -> None:
    model = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.zeros(4, 5, 8)
    formats, inputs = Recipe({}), {"query": x, "key": x, "value": x, "need_weights": False}
    kernel, written_out = (
        training_memory(model, inputs=inputs, precision=replace(formats, sites=sites)).activations
        for sites in ("modules", "operators")
    )
    # Scores become probabilities, 4 * 2 * 5 * 5 numbers; the kernel keeps a sum for each query.
    assert written_out - kernel == 4 * (4 * 2 * 5 * 5 - 4 * 2 * 5)


def test_a_network_without_attention_needs_the_same_memory() -> None:
    model = Functions(lambda h, x: F.relu(h + x))
    one, other = (
        training_memory(model, (8,), 4, replace(Recipe.paper(A, B), sites=sites)).total
        for sites in ("modules", "operators")
    )
    assert one == other


def test_sites_are_told_apart() -> None:
    assert recipe() != Recipe.paper(A, B)
    with pytest.raises(ValueError, match="sites must be 'modules' or 'operators'"):
        recipe(sites="operator")
    with pytest.raises(ValueError, match="accounting 'paper' knows sites 'modules' only"):
        training_memory(nn.Linear(4, 2), (4,), 2, recipe(), "paper")
