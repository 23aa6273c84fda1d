from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from optuna_peppp import ConfigurationSpace
from optuna_peppp.formats import Precision
from optuna_peppp.lowprecision import ImageData, RoundingScheme, TrainingResult, build_model, train
from optuna_peppp.lowprecision.quantize import ROUNDINGS, Rounding

STEP: Any = importlib.import_module("optuna_peppp.lowprecision.step")
SPACE = ConfigurationSpace.paper()
TEN = tuple(SPACE.precision(index) for index in range(4, len(SPACE), 10))
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
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
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


def distance(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounterWithBackend]:
    """The graph of the step as it was traced, run by torch itself; counts the graphs."""
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(STEP._training_step, dynamic=False, fullgraph=True, backend=counter)
    monkeypatch.setattr(STEP, "_compiled", lambda: compiled)
    torch._dynamo.reset()
    yield counter
    torch._dynamo.reset()


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("build", [residual, linear])
def test_the_graph_is_the_eager_step_bit_for_bit(
    traced: CompileCounterWithBackend, build: Network, rounding: Rounding
) -> None:
    scheme = RoundingScheme(rounding=rounding)
    for precision in TEN:
        eager, expected = trained(build, "eager", precision, scheme=scheme)
        compiled, result = trained(build, "compiled", precision, scheme=scheme)
        assert torch.equal(compiled, eager)
        assert result == expected
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
    traced: CompileCounterWithBackend, optimizer: str, precision: Precision | None
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
    for precision in TEN:
        eager = weights(build, "eager", precision, scheme=scheme)
        distances.append(distance(weights(build, "compiled", precision, scheme=scheme), eager))
        graphs.add(torch._dynamo.utils.counters["stats"]["unique_graphs"])
        other = weights(build, "eager", precision, scheme=scheme, seed=1)
        assert distances[-1] < 0.5 * distance(other, eager)
    assert sorted(distances)[len(TEN) // 2] < 1e-6
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
        (Unused, "a parameter had no gradient"),
    ],
)
def test_what_cannot_be_compiled_is_trained_eagerly(
    traced: CompileCounterWithBackend, build: Network, reason: str
) -> None:
    with pytest.warns(UserWarning, match=rf"cannot compile this training step \({reason}"):
        compiled = weights(build, "compiled")
    assert torch.equal(compiled, weights(build, "eager"))


def test_without_a_compiler_all_is_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    quantizing: Any = importlib.import_module("optuna_peppp.lowprecision.quantize")

    def refuse(*arguments: object, **options: object) -> object:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", refuse)
    fresh = functools.cache(quantizing._compiled.__wrapped__)
    monkeypatch.setattr(quantizing, "_compiled", fresh)
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
