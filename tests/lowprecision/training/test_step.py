from __future__ import annotations

import copy
import functools
import importlib
import random
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from optuna_peppp import ConfigurationSpace
from optuna_peppp.configurations.names import OptimizerName
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.lowprecision import (
    ImageData,
    LowPrecisionModule,
    LowPrecisionOptimizer,
    Quantizer,
    RoundingScheme,
    TrainingResult,
    build_model,
    train,
)
from optuna_peppp.lowprecision.rounding.quantize import ROUNDINGS, Backend, Rounding
from optuna_peppp.lowprecision.simulation.optimizer import OPTIMIZERS
from optuna_peppp.lowprecision.training.batches import Batches
from optuna_peppp.lowprecision.training.randomness import RandomStreams
from optuna_peppp.lowprecision.training.step import TrainingStep

STEP: Any = importlib.import_module("optuna_peppp.lowprecision.training.compiled_step")
SPACE = ConfigurationSpace.paper()
FIVE = tuple(SPACE.precision(index) for index in range(4, len(SPACE), 22))
"""Of different Formats A and B."""
PRECISION = Precision.parse("1-4-3", "1-6-9")
Network = Callable[[], nn.Module]


def noise(count: int, size: int = 8, channels: int = 3, classes: int = 4) -> ImageData:
    """Images and labels that have nothing to do with each other."""
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> tuple[Tensor, Tensor]:
        shape = (count, channels, size, size)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return images, torch.randint(classes, (count,), generator=generator)

    return ImageData("noise", *part(count), *part(8), classes)


def seeded(build: Network) -> nn.Module:
    with RandomStreams(0).lent():
        return build()


class Block(nn.Module):
    """A residual block that works in place, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.relu, self.dropout = nn.ReLU(inplace=True), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.dropout(self.relu(self.bn(self.conv(x)) + x))
        return output


def residual() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Sequential(Block(), Block()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU(), nn.Linear(5, 4))


def trained(
    build: Network, backend: str, precision: Precision | None = PRECISION, **settings: Any
) -> tuple[Tensor, TrainingResult]:
    """Weights and statistics after 20 steps of 8 images, and five of 3."""
    model = seeded(build)
    # Powers of two: torch's own update multiplies and adds with a single rounding.
    small: dict[str, Any] = {"learning_rate": 2**-6, "weight_decay": 2**-11}
    small |= {"epochs": 5, "batch_size": 8}
    small |= {"backend": backend} | settings
    result = train(model, noise(35), precision, **small)
    values = [value.detach().flatten().float() for value in model.state_dict().values()]
    return torch.cat(values), result


def weights(*arguments: Any, **settings: Any) -> Tensor:
    return trained(*arguments, **settings)[0]


@functools.cache
def reference(
    build: Network, precision: Precision, rounding: Rounding, seed: int = 0
) -> tuple[Tensor, TrainingResult]:
    """What an eager training gives, made once."""
    return trained(build, "eager", precision, scheme=RoundingScheme(rounding=rounding), seed=seed)


def distance(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("build", [pytest.param(residual, marks=pytest.mark.slow), linear])
def test_the_graph_is_the_eager_step_bit_for_bit(
    traced: CompileCounterWithBackend, build: Network, rounding: Rounding
) -> None:
    scheme = RoundingScheme(rounding=rounding)
    for precision in FIVE:
        eager, expected = reference(build, precision, rounding)
        compiled, result = trained(build, "compiled", precision, scheme=scheme)
        assert torch.equal(compiled, eager)
        assert result == expected
    assert traced.frame_count == 1


def test_which_formats_are_equal_is_no_other_graph(traced: CompileCounterWithBackend) -> None:
    for formats in (("1-4-3", "1-6-7"), ("1-6-7", "1-6-7"), ("1-6-7", "1-4-3")):
        precision = Precision.parse(*formats)
        compiled = weights(linear, "compiled", precision)
        assert torch.equal(compiled, weights(linear, "eager", precision))
    assert traced.frame_count == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"momentum": 0.0},
        {"momentum": 0.5, "weight_decay": 0.0},
        {"scheme": RoundingScheme(weights=None, activation_gradients="B", momentum=None)},
        {"scheme": RoundingScheme(weight_gradients="A", rounding="stochastic")},
        {"precision": None},
    ],
    ids=str,
)
def test_every_setting_and_scheme(
    traced: CompileCounterWithBackend, settings: dict[str, Any]
) -> None:
    assert torch.equal(
        weights(linear, "compiled", **settings), weights(linear, "eager", **settings)
    )
    assert traced.frame_count == 1


@pytest.mark.parametrize("precision", [PRECISION, None], ids=str)
@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_adam_updates_as_torch_does(
    traced: CompileCounterWithBackend, optimizer: OptimizerName, precision: Precision | None
) -> None:
    settings: dict[str, Any] = {"optimizer": optimizer, "learning_rate": 0.001}
    compiled = weights(linear, "compiled", precision, **settings)
    # Its bias correction is in float32, so that a rounding may fall to the other side.
    assert distance(compiled, weights(linear, "eager", precision, **settings)) < 1e-4
    assert traced.frame_count == 1


def test_step_sizes_share_a_graph(traced: CompileCounterWithBackend) -> None:
    for rate in (0.01, 0.1, 0.001):
        weights(linear, "compiled", learning_rate=rate)
    assert traced.frame_count == 1


@pytest.mark.slow
def test_all_99_configurations_share_a_graph(traced: CompileCounterWithBackend) -> None:
    scheme = RoundingScheme(rounding="stochastic")
    for index in range(len(SPACE)):
        precision = SPACE.precision(index)
        weights(linear, "compiled", precision, scheme=scheme, epochs=1, seed=index)
    assert traced.frame_count == 1


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("build", [residual, linear])
def test_the_compiled_step_is_the_eager_one(build: Network, rounding: Rounding) -> None:
    # A compiler sums in another order, and now and then a rounding falls to the other side, which
    # moves all that follows: still less than another seed does.
    scheme = RoundingScheme(rounding=rounding)
    distances, graphs = [], set()
    for precision in FIVE:
        eager, _ = reference(build, precision, rounding)
        distances.append(distance(weights(build, "compiled", precision, scheme=scheme), eager))
        graphs.add(torch._dynamo.utils.counters["stats"]["unique_graphs"])
        other, _ = reference(build, precision, rounding, seed=1)
        assert distances[-1] < 0.5 * distance(other, eager)
    assert sorted(distances)[len(FIVE) // 2] < 1e-6
    assert len(graphs) == 1


def shifting() -> nn.Module:
    class Shifted(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return output.add_(0.3)

    return nn.Sequential(nn.Flatten(), Shifted(nn.Linear(192, 5)), nn.Linear(5, 4))


class Untraceable(nn.Module):
    """A network whose way depends on the numbers that pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(192, 4), nn.Linear(192, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.first(x.flatten(1)) + 0 * self.second(x.flatten(1))
        return logits if float(logits.detach().sum()) > 0 else 2 * logits


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(192, 4), nn.Linear(192, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.first(x.flatten(1))
        return logits


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (shifting, "a module changes in place what a submodule of it returned"),
        (Untraceable, ""),
    ],
)
def test_what_cannot_be_compiled_is_trained_eagerly(
    traced: CompileCounterWithBackend, build: Network, reason: str
) -> None:
    with pytest.warns(UserWarning, match=rf"cannot compile this training step \({reason}"):
        compiled = weights(build, "compiled")
    assert torch.equal(compiled, weights(build, "eager"))


def test_a_parameter_without_a_gradient_is_left_alone(traced: CompileCounterWithBackend) -> None:
    compiled, eager = weights(Unused, "compiled"), weights(Unused, "eager")
    assert torch.equal(compiled, eager)
    assert traced.frame_count == 1


class Changing(nn.Module):
    """A linear classifier that changes an attribute of its own in every pass."""

    def __init__(self, start: Any, change: Callable[[Any], Any], factor: Callable[[Any], Any]):
        super().__init__()
        self.linear = nn.Linear(192, 4)
        self.kept, self.change, self.factor = start, change, factor

    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.change(self.kept)
        logits: Tensor = self.linear(x.flatten(1)) * self.factor(self.kept)
        return logits


def appended(values: list[int]) -> list[int]:
    values.append(1)
    return values


CHANGING: dict[str, Network] = {
    "a counter": lambda: Changing(0, lambda calls: calls + 1, lambda calls: 1.0),
    "a warm-up": lambda: Changing(0.5, lambda rate: rate * 1.0625, lambda rate: rate),
    "a list": lambda: Changing([], appended, lambda values: 1 / len(values)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHANGING)
def test_a_network_that_changes_every_time_is_trained_eagerly(
    traced: CompileCounterWithBackend, kind: str
) -> None:
    scheme = RoundingScheme(rounding="stochastic")
    with pytest.warns(UserWarning, match="changes makes it another one each time") as told:
        compiled = weights(CHANGING[kind], "compiled", scheme=scheme)
    assert len(told) == 1
    assert traced.frame_count == 3
    assert torch.equal(compiled, weights(CHANGING[kind], "eager", scheme=scheme))


def test_a_network_that_alternates_has_two_graphs(traced: CompileCounterWithBackend) -> None:
    def alternating() -> nn.Module:
        return Changing(1, lambda calls: 1 - calls, lambda calls: 1 + calls)

    assert torch.equal(weights(alternating, "compiled"), weights(alternating, "eager"))
    assert traced.frame_count == 2


class Averaging(nn.Module):
    """Batch norm whose statistics are means over all batches."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(192, 4), nn.BatchNorm1d(4, momentum=None)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.norm(self.linear(x.flatten(1)))
        return logits


class Dropping(nn.Module):
    """Leaves a layer out, or weighs it, at random."""

    def __init__(self, draw: Callable[[], Any]) -> None:
        super().__init__()
        self.linear, self.layer, self.draw = nn.Linear(192, 4), nn.Linear(4, 4), draw

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x.flatten(1))
        logits: Tensor = self.layer(x) if self.training and self.draw() < 0.5 else x
        return logits


class Weighing(Dropping):
    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x.flatten(1))
        logits: Tensor = x + self.layer(x) * self.draw()
        return logits


@pytest.mark.parametrize(
    "build",
    [
        Averaging,
        lambda: Dropping(random.random),
        lambda: Dropping(np.random.rand),
        lambda: Dropping(lambda: torch.rand(()).item()),
        lambda: Dropping(random.Random(0).random),
        lambda: Dropping(np.random.default_rng(0).random),
        lambda: Weighing(random.random),
        lambda: Weighing(np.random.rand),
    ],
    ids=["batch norm", "random", "numpy", "torch", "own", "own numpy", "weight", "numpy weight"],
)
def test_no_decision_is_part_of_the_graph(
    traced: CompileCounterWithBackend, build: Network
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether it compiles is the compiler's affair
        compiled = weights(build, "compiled")
        again = weights(build, "compiled")
    assert torch.equal(compiled, weights(build, "eager"))
    assert torch.equal(compiled, again)


FAILING: dict[str, int] = {"calls": 0, "fails at": 0}


@torch.library.custom_op("optuna_peppp_tests::sometimes_fails", mutates_args=())
def sometimes_fails(x: Tensor) -> Tensor:
    FAILING["calls"] += 1
    if FAILING["calls"] == FAILING["fails at"]:
        raise RuntimeError("the device is busy")
    return x.clone()


sometimes_fails.register_fake(torch.empty_like)
sometimes_fails.register_autograd(lambda ctx, gradient: gradient)


class Fragile(nn.Module):
    """A network whose operator fails once, when it runs; it drops out what it draws."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(192, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.dropout(self.norm(self.linear(x.flatten(1))), 0.25, self.training)
        logits: Tensor = sometimes_fails(x) if self.training else x
        return logits


@pytest.mark.parametrize("step", [2, 3, 13])
def test_a_step_that_fails_is_taken_eagerly_as_a_whole(
    traced: CompileCounterWithBackend, step: int
) -> None:
    scheme = RoundingScheme(rounding="stochastic")
    FAILING.update({"calls": 0, "fails at": step})
    with pytest.warns(UserWarning, match="cannot compile this training step .the device is busy"):
        compiled = weights(Fragile, "compiled", scheme=scheme)
    FAILING.update({"calls": 0, "fails at": 0})
    assert torch.equal(compiled, weights(Fragile, "eager", scheme=scheme))


@pytest.mark.parametrize("step", [2, 3, 13])
def test_nothing_of_a_failed_step_is_left(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Also where it fails after all was changed."""
    calls: list[None] = []

    def fails(*arguments: Any) -> None:
        STEP._training_step(*arguments)
        calls.append(None)
        if len(calls) == step:
            raise MemoryError("at the very end")

    monkeypatch.setattr(STEP, "_compiled", lambda: fails)
    scheme = RoundingScheme(rounding="stochastic")
    for optimizer in ("sgd", "adam"):
        calls.clear()
        settings: dict[str, Any] = {"scheme": scheme, "optimizer": optimizer, "learning_rate": 0.01}
        with pytest.warns(UserWarning, match="at the very end"):
            compiled = weights(residual, "compiled", **settings)
        # The update of Adam is not bit for bit that of torch.optim.
        bound = 0.0 if optimizer == "sgd" else 1e-3
        assert distance(compiled, weights(residual, "eager", **settings)) <= bound


def test_an_error_of_the_network_is_the_networks(traced: CompileCounterWithBackend) -> None:
    class Ends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.on = nn.Linear(192, 4), True

        def forward(self, x: Tensor) -> Tensor:
            if not self.on:
                raise KeyError("labels")
            logits: Tensor = self.linear(x.flatten(1))
            return logits

    model = Ends()

    def switch(epoch: int) -> None:
        model.on = epoch < 2

    with (
        pytest.warns(UserWarning, match="cannot compile this training step"),
        pytest.raises(KeyError, match="labels"),
    ):
        train(model, noise(32), PRECISION, epochs=3, batch_size=8, on_epoch=switch)


@pytest.mark.parametrize(
    ("optimizer", "setting", "graphs"),
    [("sgd", "lr", 1), ("sgd", "weight_decay", 3), ("adamw", "lr", 1)],
)
def test_a_schedule_is_followed(
    traced: CompileCounterWithBackend, optimizer: OptimizerName, setting: str, graphs: int
) -> None:
    """A step size is no other graph; all else is, and then the training goes on eagerly."""

    def scheduled(backend: Backend) -> Tensor:
        quantizer = Quantizer(PRECISION, backend=backend)
        model, data = seeded(linear), noise(8)
        network, batches = LowPrecisionModule(model, quantizer), Batches(data, torch.device("cpu"))
        inner = OPTIMIZERS[optimizer](model.parameters(), lr=2**-6, weight_decay=2**-9)
        update = LowPrecisionOptimizer(inner, quantizer)
        step = TrainingStep(network, update, batches.loss, quantizer)
        for count in range(12):
            update.param_groups[0][setting] = 2.0 ** -(6 + count // 2)
            step(data.train_images, data.train_labels)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = scheduled("compiled")
    assert distance(compiled, scheduled("eager")) < (1e-6 if optimizer == "sgd" else 1e-3)
    assert traced.frame_count == graphs


def test_a_state_that_was_loaded_is_used(traced: CompileCounterWithBackend) -> None:
    def loaded(backend: Backend) -> Tensor:
        quantizer = Quantizer(PRECISION, backend=backend)
        model, data = seeded(linear), noise(8)
        network, batches = LowPrecisionModule(model, quantizer), Batches(data, torch.device("cpu"))
        inner = torch.optim.SGD(model.parameters(), lr=2**-6, momentum=0.5)
        update = LowPrecisionOptimizer(inner, quantizer)
        step = TrainingStep(network, update, batches.loss, quantizer)
        for count in range(8):
            step(data.train_images, data.train_labels)
            if count == 1:
                state = copy.deepcopy(update.state_dict())
            if count == 4:
                update.load_state_dict(state)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(loaded("compiled"), loaded("eager"))


def test_two_threads_compile_and_train_as_alone(traced: CompileCounterWithBackend) -> None:
    def dropping() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.Dropout(0.1), nn.Linear(5, 4))

    def one(build: Network) -> Tensor:
        return weights(build, "compiled", scheme=RoundingScheme(rounding="stochastic"))

    builds = [dropping, linear, dropping, linear]
    alone = [reference(build, PRECISION, "stochastic")[0] for build in builds]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(one, builds))
    assert all(map(torch.equal, together, alone))


def test_without_a_compiler_all_is_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    quantizing: Any = importlib.import_module("optuna_peppp.lowprecision.rounding.compiling")

    def refuse(*arguments: object, **options: object) -> object:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", refuse)
    for name in ("_failure", "_warn_once"):
        fresh = functools.cache(getattr(quantizing, name).__wrapped__)
        monkeypatch.setattr(quantizing, name, fresh)
    scheme = replace(RoundingScheme(), rounding="stochastic")
    with pytest.warns(UserWarning, match="torch.compile does not work here") as told:
        compiled = weights(linear, "compiled", scheme=scheme)
    assert len(told) == 1
    assert torch.equal(compiled, weights(linear, "eager", scheme=scheme))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_recorded_kernels_train_as_eager_ones(rounding: Rounding) -> None:
    scheme = RoundingScheme(rounding=rounding)
    build = functools.partial(build_model, "plain3", 4, (3, 8, 8))
    settings: dict[str, Any] = {"scheme": scheme, "device": "cuda"}
    eager = weights(build, "eager", **settings)
    compiled = weights(build, "compiled", **settings)
    assert distance(compiled, eager) < 0.01


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("recipe", "optimizer"),
    [
        (Recipe.named("bfloat16"), "sgd"),
        (Recipe.named("float16"), "sgd"),  # its loss scale is dynamic
        (Recipe.named("fp8-hybrid"), "sgd"),
        (Recipe.named("mxfp8"), "adamw"),
        (Recipe.named("nvfp4"), "sgd"),
        (Recipe.hardware("int4@32", states="dynamic8@256", master="float24"), "adamw"),
    ],
    ids=["bfloat16", "float16", "fp8-hybrid", "mxfp8", "nvfp4", "int4"],
)
def test_recorded_kernels_of_hardware_formats_train_as_eager_ones(
    recipe: Recipe, optimizer: OptimizerName
) -> None:
    settings: dict[str, Any] = {"precision": recipe, "optimizer": optimizer, "device": "cuda"}
    eager, compiled = (weights(residual, backend, **settings) for backend in ("eager", "compiled"))
    assert distance(compiled, eager) < 0.01
