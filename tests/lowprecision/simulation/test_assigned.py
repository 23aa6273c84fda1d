from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

from optuna_peppp.configurations.assignments import Rule
from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.loss_scale import DynamicLossScale
from optuna_peppp.configurations.names import ROUNDINGS, Rounding
from optuna_peppp.configurations.notation import parse_format
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.roles import Formats
from optuna_peppp.lowprecision import Quantizer, low_precision, quantize, training_step
from optuna_peppp.lowprecision.rounding.compiling import compiled
from optuna_peppp.lowprecision.simulation.modules import LowPrecisionModule


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))


def batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        x = torch.randn(6, 1, 4, 4, generator=generator)
        yield x, torch.randint(3, (6,), generator=generator)


def two_layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


def trained(
    recipe: Recipe, backend: Any = "eager", build: Any = network, steps: int = 4
) -> tuple[Tensor, Any]:
    """The weights after some steps, and which tensors are low."""
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    step = training_step(
        model, optimizer, nn.functional.cross_entropy, recipe, seed=0, backend=backend
    )
    for x, labels in batches(steps):
        step(x, labels)
    return torch.cat([x.flatten() for x in model.state_dict().values()]), step.network.assigned


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_both_ends_are_trainings_with_one_format(rounding: Rounding) -> None:
    low, high = (Recipe.paper(fmt, "1-6-7", rounding) for fmt in ("1-3-2", "1-4-3"))

    def mixed(demotion: float) -> Tensor:
        recipe = Recipe.assigned("1-3-2", "1-4-3", "1-6-7", demotion=demotion, rounding=rounding)
        return trained(recipe)[0]

    assert torch.equal(mixed(1.0), trained(low)[0])
    assert torch.equal(mixed(0.0), trained(high)[0])
    half = mixed(0.5)
    assert not torch.equal(half, mixed(1.0))
    assert not torch.equal(half, mixed(0.0))


def test_where_both_formats_are_one_every_assignment_is_one() -> None:
    recipes = [
        Recipe.assigned("1-4-3", "1-4-3", "1-6-7", demotion=demotion, order=order)
        for demotion, order in ((0, "decreasing"), (0.5, "decreasing"), (0.5, "operator"))
    ]
    first, *others = (trained(recipe)[0] for recipe in recipes)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize(
    ("low", "high"), [("mxfp4", "mxfp8-e4m3"), ("nvfp4", "bfloat16"), ("int4@32", "float8-e4m3")]
)
def test_formats_with_scales_may_be_mixed(low: str, high: str) -> None:
    for demotion, alone in ((1.0, low), (0.0, high)):
        mixed = trained(Recipe.assigned(low, high, "bfloat16", demotion=demotion))[0]
        assert torch.equal(mixed, trained(Recipe.paper(alone, "bfloat16"))[0])


def test_what_each_tensor_is_rounded_to() -> None:
    # Linear, ReLU, Linear on a batch of 7: of three groups the middle one is the largest.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    recipe = Recipe.assigned("1-2-1", "1-5-9", "1-8-23", demotion=0.5)
    x = torch.randn(7, 4)
    output = LowPrecisionModule(model, recipe)(x)

    first = quantize(nn.functional.linear(x, *_rounded(model[0], "1-5-9")), "1-2-1")
    second = quantize(first.relu(), "1-2-1")
    expected = nn.functional.linear(second, *_rounded(model[2], "1-2-1"))
    assert torch.equal(output, expected)


def _rounded(layer: Any, fmt: str) -> tuple[Tensor, Tensor]:
    return quantize(layer.weight, fmt), quantize(layer.bias, fmt)


def test_ten_assignments_are_one_graph_and_the_eager_step(
    traced: CompileCounterWithBackend,
) -> None:
    for number in range(10):
        recipe = Recipe.assigned(
            *(("1-3-1", "1-4-3b8", "1-3-2b2")[number % 3], ("1-4-3", "1-6-9")[number % 2], "1-6-7"),
            demotion=number / 9,
            order=("decreasing", "increasing", "operator", "random-1")[number % 4],
            promotion=(None, 0.01, 0.2)[number % 3],
        )
        eager, one = trained(recipe, "eager", two_layers)
        compiled, other = trained(recipe, "compiled", two_layers)
        assert torch.equal(compiled, eager)
        for name in ("low_activations", "low_weights", "low_gradients"):
            assert torch.equal(getattr(one, name), getattr(other, name))
    assert traced.frame_count == 1


# 1-4-3b8 holds numbers below 1.9375: a standard normal one exceeds that with probability 5.3%.
NARROW = Recipe.assigned("1-4-3b8", "1-4-3", "1-6-9", promotion=0.01)


def test_what_overflows_is_promoted_for_good_from_the_next_step_on() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    module = LowPrecisionModule(model, NARROW)
    x = 0.1 * torch.randn(512, 4)
    first = module(x)
    assigned = module.assigned
    assert assigned is not None
    assert assigned.low_activations.all()  # the step that overflows is still the low one
    assert torch.equal(first, LowPrecisionModule(model, Recipe.paper("1-4-3b8", "1-6-9"))(x))
    module(torch.zeros(512, 4))
    # The output of the batch norm, and its weights, which are 1, are below the limit.
    assert assigned.low_activations.tolist() == [True, True, False, True]
    assert assigned.low_weights.all()
    assert assigned.low_gradients.all()
    for _ in range(2):
        module(torch.zeros(512, 4))
        assert assigned.low_activations.tolist() == [True, True, False, True]
    assert assigned.promoted() == ("1",)
    # Of 512 * (4 + 8 + 8 + 2) numbers and 74 parameters, twice: input and logits are neither, and
    # the output of the batch norm is high, but not its gradient.
    assert assigned.low_ratio() == (512 * (16 + 8) + 74) / (2 * (512 * 22 + 74))


@pytest.mark.parametrize(
    ("large", "promotion", "promoted"),
    [(10, 0.01, True), (9, 0.01, False), (1000, 1.0, True), (1000, 1.1, False), (1, None, False)],
)
def test_a_share_of_exactly_the_limit_promotes(
    large: int, promotion: float | None, promoted: bool
) -> None:
    layer = nn.Linear(1, 1)
    model = nn.Sequential(nn.ReLU(), layer)
    module = LowPrecisionModule(
        model, Recipe.assigned("1-4-3b4", "1-6-9", "1-8-23", promotion=promotion)
    )
    x = torch.zeros(1000, 1)
    x[:large] = 31.0  # the smallest number that overflows
    x[large:] = 30.99
    for _ in range(2):
        module(x)
    assert module.assigned is not None
    assert module.assigned.low_activations.tolist() == [True, not promoted, True]


def test_nan_counts_as_overflow() -> None:
    module = LowPrecisionModule(nn.Sequential(nn.ReLU(), nn.Linear(2, 1)), NARROW)
    for _ in range(2):
        module(torch.full((3, 2), float("nan")))
    assert module.assigned is not None
    # The logits are none of the activations.
    assert module.assigned.low_activations.tolist() == [True, False, True]


def test_weights_are_promoted_one_by_one() -> None:
    last = nn.Linear(4, 2)
    with torch.no_grad():
        last.bias[0] = 5.0
    module = LowPrecisionModule(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), last), NARROW)
    for _ in range(2):
        module(torch.zeros(2, 3))
    assert module.assigned is not None
    assert module.assigned.low_weights.tolist() == [True, True, True, False]


def test_evaluation_counts_nothing() -> None:
    module = LowPrecisionModule(nn.Sequential(nn.ReLU(), nn.Linear(2, 1)), NARROW)
    large = torch.full((3, 2), 9.0)
    module.eval()
    for _ in range(2):
        module(large)
    module.train()
    with torch.no_grad():
        for _ in range(2):
            module(large)
    assert module.assigned is not None
    assert module.assigned.low_activations.all()


def test_another_training_starts_clean() -> None:
    def start() -> tuple[Any, Any]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.ReLU(), nn.Linear(2, 1))
        return low_precision(model, torch.optim.SGD(model.parameters(), 0.1), NARROW)

    one, _ = start()
    for _ in range(2):
        one(torch.full((3, 2), 9.0))
    other, _ = start()
    other(torch.zeros(3, 2))
    assert not one.assigned.low_activations.all()
    assert other.assigned.low_activations.all()


def test_what_is_computed_again_is_rounded_as_it_was() -> None:
    torch.manual_seed(0)

    class Checkpointed(nn.Module):
        def __init__(self, again: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.again = again
            self.part = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())
            self.last = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = checkpoint(self.part, x, use_reentrant=False) if self.again else self.part(x)
            result: Tensor = self.last(y)
            return result

    gradients = []
    for again in (True, False):
        module = LowPrecisionModule(Checkpointed(again), NARROW)
        for _ in range(3):
            module.zero_grad()
            module(torch.randn(64, 4, generator=torch.Generator().manual_seed(0))).sum().backward()
        gradients.append([p.grad for p in module.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_gradients_overflow_to_infinity_where_a_dynamic_scale_sees_it() -> None:
    formats: Formats = {"activation_gradients": parse_format("1-4-3b4")}
    for loss_scale, expected in ((DynamicLossScale(), float("inf")), (1.0, 30.0)):
        x = torch.ones(2, 1, requires_grad=True)
        module = LowPrecisionModule(
            nn.Sequential(nn.ReLU(), nn.Hardtanh(-9, 9)), Recipe(formats, loss_scale=loss_scale)
        )
        module(x).backward(torch.tensor([[31.0], [-4000.0]]))
        assert x.grad is not None
        assert x.grad.flatten().tolist() == [expected, -expected]


def test_input_and_logits_may_follow_their_groups() -> None:
    rule = Rule(FloatFormat(6, 9), demotion=1.0, ends=True)
    low = parse_format("1-3-1")
    formats = dict.fromkeys(("weights", "activations", "activation_gradients"), low)
    module = LowPrecisionModule(nn.Linear(3, 2), Recipe(formats, rule=rule))  # type: ignore[arg-type]
    seen = []
    module.module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.tensor([[1.1, 0.3, 9.0]])
    module(x)
    assert torch.equal(seen[0], quantize(x, low))


def test_formats_that_cannot_overflow_promote_nothing() -> None:
    with pytest.raises(ValueError, match="promotion must be None with weights in mxfp4"):
        Recipe.assigned("mxfp4", "mxfp8-e4m3", "bfloat16", promotion=0.01)


@pytest.mark.parametrize("stop", [0, 3])
def test_a_training_goes_on_where_it_was_killed(stop: int) -> None:
    recipe = Recipe.assigned("1-4-3b8", "1-4-3", "1-6-9", promotion=0.01, rounding="stochastic")
    data = [*batches(6)]

    def start() -> tuple[Any, Any]:
        model = network()
        return low_precision(model, torch.optim.SGD(model.parameters(), 0.5, 0.9), recipe, seed=0)

    def run(pair: tuple[Any, Any], part: list[tuple[Tensor, Tensor]]) -> tuple[Any, Any]:
        module, optimizer = pair
        for x, labels in part:
            optimizer.zero_grad()
            optimizer.scale(nn.functional.cross_entropy(module(4 * x), labels)).backward()
            optimizer.step()
        return pair

    whole, _ = run(start(), data)
    assert whole.assigned.promoted()
    pair = run(start(), data[:stop])
    # Flags and what the last pass counted, which promotes when the next one begins.
    state = [copy.deepcopy(x.state_dict()) for x in pair]
    resumed = start()
    if stop == 0:  # over what was promoted in another training
        resumed = run(resumed, data)
    for x, kept in zip(resumed, state, strict=True):
        x.load_state_dict(kept)
    again, _ = run(resumed, data[stop:])
    assert again.assigned.promoted() == whole.assigned.promoted()
    for name, x in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], x)


@pytest.mark.slow
def test_weights_may_be_the_first_to_be_rounded_by_a_compiled_kernel() -> None:
    compiled.cache_clear()  # as in a process that has rounded nothing yet
    rule = Rule(FloatFormat(4, 3), 0.5)
    recipe = Recipe({"weights": parse_format("1-3-1")}, rule=rule)
    x = torch.randn(7, 4)
    outputs = [
        LowPrecisionModule(two_layers_of_4(), Quantizer(recipe, backend=backend))(x)
        for backend in ("eager", "compiled")
    ]
    assert torch.equal(*outputs)


def two_layers_of_4() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
