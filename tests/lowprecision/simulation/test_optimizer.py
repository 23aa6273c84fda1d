from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from optuna_peppp import Recipe
from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.lowprecision import (
    LowPrecisionModule,
    LowPrecisionOptimizer,
    Quantizer,
    RoundingScheme,
    quantize,
)
from optuna_peppp.lowprecision.simulation.optimizer import OPTIMIZERS

A, B = FloatFormat(4, 3), FloatFormat(6, 7)
PRECISION = Precision(A, B)
Build = Callable[[Any], Optimizer]


def sgd(parameters: Any) -> Optimizer:
    return SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4)


def adam(parameters: Any) -> Optimizer:
    return Adam(parameters, lr=0.01, weight_decay=5e-4)


def adamw(parameters: Any) -> Optimizer:
    return AdamW(parameters, lr=0.01)


def network() -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(16, 6, generator=generator),
            torch.randint(0, 3, (16,), generator=generator),
        )
        for _ in range(count)
    ]


def is_in(x: Tensor, fmt: FloatFormat) -> bool:
    return torch.equal(quantize(x, fmt), x)


def states(optimizer: Optimizer) -> list[Tensor]:
    """Everything but the step count."""
    return [
        value
        for state in optimizer.state.values()
        for name, value in state.items()
        if name != "step"
    ]


@pytest.mark.parametrize("build", [sgd, adam, adamw])
def test_steps_are_those_of_qpytorch(qtorch: ModuleType, build: Build) -> None:
    """OptimLP multiplies by the inverse of the loss scale: the same for a power of two."""
    scale = 1024.0
    ours, theirs = network(), network()
    scheme = RoundingScheme(
        activations=None, activation_gradients=None, input=None, logits=None, loss_scale=scale
    )
    quantizer = Quantizer(PRECISION, scheme)
    module = LowPrecisionModule(ours, quantizer)
    optimizer = build(ours.parameters())
    update = LowPrecisionOptimizer(optimizer, quantizer)

    def rounding(fmt: FloatFormat) -> Callable[[Tensor], Tensor]:
        number = qtorch.FloatingPoint(exp=fmt.exponent, man=fmt.mantissa)
        rounded: Callable[[Tensor], Tensor] = qtorch.quant.quantizer(
            forward_number=number, forward_rounding="nearest"
        )
        return rounded

    # OptimLP leaves the initial accumulators and weights to the user.
    for p in theirs.parameters():
        p.data = rounding(B)(p.data)
    inner = build(theirs.parameters())
    reference = qtorch.optim.OptimLP(
        inner,
        weight_quant=rounding(A),
        grad_scaling=1 / scale,
        grad_quant=rounding(B),
        momentum_quant=rounding(B),
        acc_quant=rounding(B),
    )
    for p in theirs.parameters():
        p.data = rounding(A)(p.data)
    start = [p.detach().clone() for p in ours.parameters()]
    for images, labels in batches(10):
        update.zero_grad()
        loss = cross_entropy(module(images), labels)
        torch.autograd.backward(update.scale(loss))
        update.step()
        inner.zero_grad()
        torch.autograd.backward(cross_entropy(theirs(images), labels) * scale)
        reference.step()
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(one, reference.weight_acc[other])
            assert torch.equal(quantize(one, A), other)
        assert all(map(torch.equal, states(optimizer), states(inner)))
    assert not any(map(torch.equal, ours.parameters(), start))


def test_two_steps_of_sgd_by_hand() -> None:
    # In 1-2-1 numbers are 0, 0.5, 1, 1.5, 2, 3, 4, 6; the learning rate is 1. What stands in .grad
    # has no loss scale.
    weight = nn.Parameter(torch.tensor([1.2]))
    optimizer = SGD([weight], lr=1.0, momentum=0.5)
    quantizer = Quantizer(Precision(A, FloatFormat(2, 1)), RoundingScheme(loss_scale=4.0))
    update = LowPrecisionOptimizer(optimizer, quantizer)
    assert weight.tolist() == [1.0]  # an accumulator from the start
    weight.grad = torch.tensor([0.8])
    update.step()
    # 0.8 becomes 1; 1 - 1 = 0.
    assert weight.grad.tolist() == [1.0]
    assert weight.tolist() == [0.0]
    assert optimizer.state[weight]["momentum_buffer"].tolist() == [1.0]
    weight.grad = torch.tensor([-0.75])
    update.step()
    # -0.75 becomes -1; the momentum 0.5 - 1 = -0.5; 0 + 0.5 = 0.5.
    assert weight.grad.tolist() == [-1.0]
    assert weight.tolist() == [0.5]
    assert optimizer.state[weight]["momentum_buffer"].tolist() == [-0.5]


@pytest.mark.parametrize("build", [sgd, adam, adamw])
def test_everything_is_kept_in_b(build: Build) -> None:
    model = network()
    optimizer = build(model.parameters())
    update = LowPrecisionOptimizer(optimizer, Quantizer(PRECISION))
    assert all(is_in(p, B) for p in model.parameters())
    for images, labels in batches(3):
        update.zero_grad()
        torch.autograd.backward(update.scale(cross_entropy(model(images), labels)))
        update.step()
        assert all(is_in(p, B) for p in model.parameters())
        assert all(p.grad is not None and is_in(p.grad, B) for p in model.parameters())
        kept = states(optimizer)
        assert len(kept) == 4 * (1 if build is sgd else 2)
        assert all(is_in(state, B) for state in kept)
        assert all(bool(state.any()) for state in kept)


@pytest.mark.parametrize("choice", ["A", None])
@pytest.mark.parametrize("role", ["weight_gradients", "momentum", "accumulators"])
def test_every_choice_of_the_scheme(role: str, choice: str | None) -> None:
    """Against the loop written out."""
    scheme = replace(RoundingScheme(), **{role: choice})  # type: ignore[arg-type]

    def rounded(x: Tensor, choice: str | None) -> Tensor:
        return x if choice is None else quantize(x, A if choice == "A" else B)

    generator = torch.Generator().manual_seed(0)
    start = torch.randn(50, generator=generator)
    gradients = 0.1 * torch.randn(4, 50, generator=generator)
    weight = nn.Parameter(start.clone())
    optimizer = SGD([weight], lr=0.1, momentum=0.9)
    update = LowPrecisionOptimizer(optimizer, Quantizer(PRECISION, scheme))
    accumulator, momentum = rounded(start, scheme.accumulators), torch.zeros(50)
    for gradient in gradients:
        weight.grad = gradient.clone()
        update.step()
        momentum = 0.9 * momentum + rounded(gradient, scheme.weight_gradients)
        accumulator = rounded(torch.add(accumulator, momentum, alpha=-0.1), scheme.accumulators)
        momentum = rounded(momentum, scheme.momentum)
        assert torch.equal(weight, accumulator)
    for kept, format_choice in (
        (weight.grad, scheme.weight_gradients),
        (optimizer.state[weight]["momentum_buffer"], scheme.momentum),
        (weight.detach(), scheme.accumulators),
    ):
        assert kept is not None
        assert is_in(kept, A) == (format_choice == "A")
        assert is_in(kept, B) == (format_choice is not None)


def test_parameters_without_a_gradient_are_left_alone() -> None:
    used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.full((3,), 1.1))
    optimizer = SGD([used, unused], lr=0.1, momentum=0.9, weight_decay=0.1)
    update = LowPrecisionOptimizer(optimizer, Quantizer(PRECISION))
    before = unused.detach().clone()
    used.grad = torch.ones(3)
    update.step()
    assert torch.equal(unused, before)
    assert not optimizer.state[unused]
    assert bool((used < 1).all())
    update.zero_grad()
    assert used.grad is None
    update.step()  # with no gradient at all


@pytest.mark.parametrize("build", [sgd, adam])
def test_the_momentum_of_a_single_number_is_rounded(build: Build) -> None:
    weight = nn.Parameter(torch.tensor(1.1))
    optimizer = build([weight])
    update = LowPrecisionOptimizer(optimizer, Quantizer(PRECISION))
    weight.grad = torch.tensor(123.4)
    update.step()
    weight.grad = torch.tensor(77.7)
    update.step()
    assert all(is_in(state, B) for state in states(optimizer))


@pytest.mark.parametrize("build", [adam, adamw])
def test_the_step_count_is_no_momentum(build: Build) -> None:
    weight = nn.Parameter(torch.tensor(1.1))
    optimizer = build([weight])
    update = LowPrecisionOptimizer(optimizer, Quantizer(PRECISION))
    for _ in range(257):  # 1-6-7 holds 256, but not 257
        weight.grad = torch.tensor(1.0)
        update.step()
    assert optimizer.state[weight]["step"] == 257


def test_what_is_remembered_of_embeddings_stays_float32() -> None:
    """Where the module is told; it survives a pickle."""
    model = nn.Sequential(nn.Embedding(64, 64), nn.Linear(64, 64))
    recipe = Recipe.hardware(states="dynamic8@256")

    def rounded(optimizer: Optimizer) -> list[bool]:
        answers, generator = [], torch.Generator().manual_seed(0)
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
        for parameter, state in optimizer.state.items():
            assert parameter.grad is not None
            gradient = quantize(parameter.grad, "bfloat16")
            plain = torch.zeros_like(gradient).lerp_(gradient, 0.1)
            answers.append(not torch.equal(state["exp_avg"], plain))
        return answers

    alone = LowPrecisionOptimizer(AdamW(model.parameters()), recipe)
    assert rounded(alone) == [True, True, False]
    told = LowPrecisionOptimizer(AdamW(model.parameters()), recipe, model)
    assert rounded(pickle.loads(pickle.dumps(told))) == [False, True, False]


def test_all_parameter_groups_are_updated() -> None:
    first, second = nn.Parameter(torch.tensor([1.1])), nn.Parameter(torch.tensor([1.1]))
    groups: list[dict[str, Any]] = [{"params": [first]}, {"params": [second], "lr": 0.25}]
    optimizer = SGD(groups, lr=0.5)
    update = LowPrecisionOptimizer(optimizer, Quantizer(PRECISION, RoundingScheme(loss_scale=1.0)))
    start = quantize(torch.tensor([1.1]), B)
    assert torch.equal(first, start)
    assert torch.equal(second, start)
    first.grad, second.grad = torch.ones(1), torch.ones(1)
    update.step()
    assert torch.equal(first, quantize(start - 0.5, B))
    assert torch.equal(second, quantize(start - 0.25, B))


def test_without_a_precision_it_is_the_optimizer_itself() -> None:
    ours, theirs = network(), network()
    quantizer = Quantizer(None, RoundingScheme(loss_scale=1024.0))
    update = LowPrecisionOptimizer(sgd(ours.parameters()), quantizer)
    plain = sgd(theirs.parameters())
    for images, labels in batches(5):
        update.zero_grad()
        torch.autograd.backward(update.scale(cross_entropy(ours(images), labels)))
        update.step()
        plain.zero_grad()
        torch.autograd.backward(cross_entropy(theirs(images), labels))
        plain.step()
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_other_optimizers_are_refused() -> None:
    optimizer = torch.optim.RMSprop(network().parameters())
    with pytest.raises(TypeError, match=r"must be torch.optim.SGD, Adam or AdamW; got RMSprop"):
        LowPrecisionOptimizer(optimizer, Quantizer(PRECISION))


def test_optimizers_by_name() -> None:
    weight = nn.Parameter(torch.ones(1))
    built = {name: type(build([weight], lr=0.1)) for name, build in OPTIMIZERS.items()}
    assert built == {"sgd": SGD, "adam": Adam, "adamw": AdamW}


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        logits: Tensor = self.last(x + torch.relu(self.norm(self.inner(x))))
        return logits


def residual() -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return Residual()


FLOAT32 = Precision.parse("1-8-23", "1-8-23")
SCHEDULES: dict[str, Callable[[Optimizer], Any]] = {
    "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.5),
    "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=12),
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 8),
    "lambda": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    "sequential": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o,
        [
            torch.optim.lr_scheduler.LinearLR(o, 0.25, total_iters=3),
            torch.optim.lr_scheduler.ExponentialLR(o, 0.5),
        ],
        [4],
    ),
}


class Loop:
    """A training loop as users write it: schedule, accumulation over two passes, clipping.

    In 1-8-23 nothing is rounded, so that it must be what torch alone does.
    """

    def __init__(self, build: Build, schedule: str, loss_scale: float | None) -> None:
        """``loss_scale`` None is torch alone."""
        self.model = residual()
        optimizer, self.forward = build(self.model.parameters()), self.model
        if loss_scale is not None:
            quantizer = Quantizer(FLOAT32, RoundingScheme(loss_scale=loss_scale))
            self.forward = LowPrecisionModule(self.model, quantizer)
            optimizer = LowPrecisionOptimizer(optimizer, quantizer)
        self.optimizer = optimizer
        self.schedule = SCHEDULES[schedule](optimizer)

    def run(self, data: list[tuple[Tensor, Tensor]]) -> None:
        for images, labels in data:
            self.optimizer.zero_grad(set_to_none=True)
            for part in range(2):
                # Side by side in memory, as what is rounded is: sums of strided images differ.
                half, answers = images[part::2].contiguous(), labels[part::2]
                loss = cross_entropy(self.forward(half), answers) / 2
                if isinstance(self.optimizer, LowPrecisionOptimizer):
                    loss = self.optimizer.scale(loss)
                torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
            nn.utils.clip_grad_value_(self.model.parameters(), 0.2)
            self.optimizer.step()
            self.schedule.step()

    def checkpoint(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        return {name: part.state_dict() for name, part in parts.items()}

    def restore(self, checkpoint: dict[str, Any]) -> None:
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.schedule.load_state_dict(checkpoint["schedule"])


def assert_same(ours: Loop, theirs: Loop) -> None:
    for name, value in ours.model.state_dict().items():
        assert torch.equal(value, theirs.model.state_dict()[name]), name
    assert all(map(torch.equal, states(ours.optimizer), states(theirs.optimizer)))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("build", [sgd, adam, adamw])
def test_a_loop_is_that_of_torch(build: Build, schedule: str) -> None:
    loops = [Loop(build, schedule, scale) for scale in (None, 1.0, 1024.0)]
    for loop in loops:
        loop.run(batches(8))
    assert_same(loops[1], loops[0])
    assert_same(loops[2], loops[0])  # a power of two takes nothing away
    lr = [loop.optimizer.param_groups[0]["lr"] for loop in loops]
    assert lr[0] == lr[1] == lr[2]


def test_the_loss_scale_does_not_move_a_clipped_training() -> None:
    loops = [Loop(sgd, "one cycle", scale) for scale in (1.0, 1000.0)]
    for loop in loops:
        loop.run(batches(8))
    for ours, theirs in zip(*(loop.model.parameters() for loop in loops), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("build", [sgd, adam, adamw])
def test_a_resumed_training_is_an_uninterrupted_one(
    build: Build, rounding: Any, tmp_path: Path
) -> None:
    def prepare() -> tuple[Loop, torch.Generator]:
        loop, generator = Loop(build, "one cycle", 1000.0), torch.Generator().manual_seed(0)
        quantizer = Quantizer(PRECISION, RoundingScheme(rounding=rounding), generator)
        loop.forward = LowPrecisionModule(loop.model, quantizer)
        loop.optimizer = LowPrecisionOptimizer(build(loop.model.parameters()), quantizer)
        loop.schedule = SCHEDULES["one cycle"](loop.optimizer)
        return loop, generator

    whole, _ = prepare()
    whole.run(batches(8))
    first, generator = prepare()
    first.run(batches(8)[:4])
    torch.save(first.checkpoint() | {"random": generator.get_state()}, tmp_path / "checkpoint.pt")
    second, generator = prepare()
    saved = torch.load(tmp_path / "checkpoint.pt")
    second.restore(saved)
    generator.set_state(saved["random"])
    second.run(batches(8)[4:])
    assert_same(second, whole)


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_copies_go_on_by_themselves(way: str) -> None:
    loop = Loop(adam, "step", 1000.0)
    loop.run(batches(2))
    pair = loop.model, loop.optimizer
    copied: Any = copy.deepcopy(pair) if way == "deepcopy" else pickle.loads(pickle.dumps(pair))
    other = Loop(adam, "step", 1000.0)
    other.model, other.optimizer = copied
    assert other.optimizer.param_groups[0]["params"][0] is next(other.model.parameters())
    before = [p.detach().clone() for p in other.model.parameters()]

    def steps(model: nn.Module, optimizer: Any) -> None:
        for images, labels in batches(3):
            optimizer.zero_grad()
            torch.autograd.backward(optimizer.scale(cross_entropy(model(images), labels)))
            optimizer.step()

    steps(loop.model, loop.optimizer)
    assert all(map(torch.equal, before, other.model.parameters()))
    steps(other.model, other.optimizer)
    assert_same(other, loop)


class Lightning(nn.Module):
    """What a mini trainer asks of a module, in the words of Lightning."""

    def __init__(self) -> None:
        super().__init__()
        self.model = residual()
        self.quantizer = Quantizer(PRECISION)
        self.forward_pass = LowPrecisionModule(self.model, self.quantizer)

    def configure_optimizers(self) -> tuple[list[Optimizer], list[dict[str, Any]]]:
        decayed = [p for p in self.model.parameters() if p.dim() > 1]
        others = [p for p in self.model.parameters() if p.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "lr": 0.001}]
        inner = AdamW(groups, lr=0.01, weight_decay=0.0)
        self.optimizer = LowPrecisionOptimizer(inner, self.quantizer)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, [0.01, 0.001], total_steps=10
        )
        return [self.optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return self.optimizer.scale(cross_entropy(self.forward_pass(batch[0]), batch[1]))


def test_a_trainer_drives_it_with_a_closure() -> None:
    module = Lightning()
    (optimizer,), (entry,) = module.configure_optimizers()
    assert isinstance(optimizer, Optimizer)
    seen: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    average = AveragedModel(
        module.model,
        multi_avg_fn=get_ema_multi_avg_fn(0.5),  # type: ignore[no-untyped-call]
    )
    losses, rates = [], []
    for batch in batches(1) * 9:

        def closure(batch: tuple[Tensor, Tensor] = batch) -> Tensor:
            optimizer.zero_grad()
            loss = module.training_step(batch)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            return loss.detach()

        losses.append(float(optimizer.step(closure)))  # type: ignore[arg-type]
        entry["scheduler"].step()
        average.update_parameters(module.model)
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert losses[-1] < losses[0]
    assert seen == ["before", "after"] * 9
    assert max(first for first, _ in rates) > 5 * rates[-1][0]
    assert all(first == pytest.approx(10 * second) for first, second in rates)
    for ours, averaged in zip(module.model.parameters(), average.parameters(), strict=True):
        assert is_in(ours, B)
        # Steps of some vectors are too small for the format.
        assert ours.dim() == 1 or not torch.equal(ours, averaged)


def test_gradients_without_a_scale_are_right_too() -> None:
    """A loss that nobody scaled, and gradients that are given."""
    moved = []
    for scaled in (True, False):
        model = network()
        quantizer = Quantizer(FLOAT32, RoundingScheme(loss_scale=1024.0))
        update = LowPrecisionOptimizer(sgd(model.parameters()), quantizer)
        for images, labels in batches(3):
            update.zero_grad()
            loss = cross_entropy(model(images), labels)
            torch.autograd.backward(update.scale(loss) if scaled else loss)
            update.step()
        moved.append(list(model.parameters()))
    assert all(map(torch.equal, *moved))


@pytest.mark.parametrize("finite", [True, False])
def test_under_a_gradient_scaler(finite: bool) -> None:
    model, plain = network(), network()
    update = LowPrecisionOptimizer(sgd(model.parameters()), Quantizer(FLOAT32))
    optimizer = sgd(plain.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    images, labels = batches(1)[0]
    factor = 1.0 if finite else float("inf")
    torch.autograd.backward(
        scaler.scale(update.scale(factor * cross_entropy(model(images), labels)))
    )
    scaler.unscale_(update)
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    scaler.step(update)
    scaler.update()
    if finite:
        torch.autograd.backward(cross_entropy(plain(images), labels))
        nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
        optimizer.step()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_parameters_added_and_unfrozen_later() -> None:
    model = network()
    first, last = model[0], model[2]  # type: ignore[index]
    first.weight.requires_grad_(False)
    quantizer = Quantizer(PRECISION, RoundingScheme(loss_scale=1000.0))
    update = LowPrecisionOptimizer(sgd(first.parameters()), quantizer)
    update.add_param_group({"params": list(last.parameters()), "lr": 0.001})
    assert all(is_in(p, B) for p in last.parameters())
    assert [group["lr"] for group in update.param_groups] == [0.05, 0.001]
    images, labels = batches(1)[0]
    for frozen in (True, False):
        before = [p.detach().clone() for p in model.parameters()]
        first.weight.requires_grad_(not frozen)
        update.zero_grad()
        torch.autograd.backward(update.scale(cross_entropy(model(images), labels)))
        assert all(float(p.grad.abs().max()) < 1 for p in model.parameters() if p.grad is not None)
        update.step()
        kept = [torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True)]
        assert kept[0] == frozen
        assert not kept[2]


def test_two_optimizers_of_one_loss() -> None:
    """A loss that one of them scaled reaches the parameters of both."""
    moved = []
    for scale in (1.0, 1024.0):
        model = network()
        quantizer = Quantizer(FLOAT32, RoundingScheme(loss_scale=scale))
        first = LowPrecisionOptimizer(sgd(model[0].parameters()), quantizer)  # type: ignore[index]
        second = LowPrecisionOptimizer(adam(model[2].parameters()), quantizer)  # type: ignore[index]
        for images, labels in batches(3):
            model.zero_grad()
            torch.autograd.backward(first.scale(cross_entropy(model(images), labels)))
            first.step()
            second.step()
        moved.append(list(model.parameters()))
    assert all(map(torch.equal, *moved))


@pytest.mark.parametrize("build", [sgd, adam, adamw])
def test_sparse_gradients_are_those_of_a_dense_embedding(build: Build) -> None:
    moved = []
    for sparse in (False, True):
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            model = nn.Embedding(9, 4, sparse=sparse)
        update = LowPrecisionOptimizer(build(model.parameters()), Quantizer(PRECISION))
        for words in (torch.tensor([1, 1, 5]), torch.tensor([5, 2])):
            update.zero_grad()
            torch.autograd.backward(update.scale(model(words).square().sum()))
            update.step()
        moved.append(model.weight)
    assert torch.equal(*moved)
    assert is_in(moved[1], B)


def test_dtypes_are_rounded_each_as_it_is() -> None:
    """Nothing is destroyed: complex numbers keep both parts, integers all of their digits."""
    complex_weight = nn.Parameter(torch.tensor([1.1 + 2.3j, -0.7j]))
    double = nn.Parameter(torch.tensor([1.1], dtype=torch.float64))
    integer = nn.Parameter(torch.tensor([123456789]), requires_grad=False)
    for weight in (complex_weight, double, integer):
        before = weight.detach().clone()
        update = LowPrecisionOptimizer(sgd([weight]), Quantizer(PRECISION))
        assert weight.dtype == before.dtype
        if weight is integer:
            assert torch.equal(weight, before)
            continue
        torch.autograd.backward(update.scale((weight * weight.conj()).real.sum()))
        update.step()
        parts = torch.view_as_real(weight) if weight.is_complex() else weight
        assert is_in(parts.detach(), B)
        assert not torch.equal(weight, before)
        torch.testing.assert_close(weight.detach(), before * 0.9, rtol=0.02, atol=0)
    assert bool((complex_weight.imag != 0).all())


def test_a_state_of_torch_alone_is_taken() -> None:
    ours, theirs = Loop(adam, "step", 1000.0), Loop(adam, "step", None)
    theirs.run(batches(2))
    ours.restore(theirs.checkpoint())
    assert_same(ours, theirs)
    theirs.restore(ours.checkpoint())  # and the other way round


def test_it_leaves_no_trace_on_the_parameters() -> None:
    weight = nn.Parameter(torch.ones(2))
    update = LowPrecisionOptimizer(sgd([weight]), Quantizer(PRECISION))
    torch.autograd.backward(update.scale(weight.sum()))
    assert not weight._backward_hooks
    gone = weakref.ref(update)
    del update
    gc.collect()
    assert gone() is None
