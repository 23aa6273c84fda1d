"""Networks of all kinds in the compiled step: trained as eagerly, or eagerly with a warning."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

from optuna_peppp.configurations.precision import Precision
from optuna_peppp.lowprecision import ImageData, RoundingScheme, TextData, build_model, train
from optuna_peppp.lowprecision.rounding.quantize import ROUNDINGS, Rounding

STEP: Any = importlib.import_module("optuna_peppp.lowprecision.training.compiled_step")
PRECISION = Precision.parse("1-4-3", "1-6-9")


def noise() -> ImageData:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 1, 4, 4), dtype=torch.uint8, generator=generator)
    labels = torch.randint(3, (24,), generator=generator)
    return ImageData("noise", images, labels, images[:8], labels[:8], 3)


class Network(nn.Module):
    """A linear layer, a block that is run as the test says, and the logits in a form of its own."""

    def __init__(
        self,
        run: Callable[[nn.Module, Tensor], Any] = lambda block, x: block(x),
        form: Callable[[Tensor], Tensor] = lambda y: y,
    ) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(16, 6), nn.Linear(6, 3)
        self.block = nn.Sequential(nn.Linear(6, 6), nn.ReLU(inplace=True), nn.Linear(6, 6))
        self.run, self.form = run, form

    def forward(self, x: Tensor) -> Tensor:
        return self.form(self.head(self.run(self.block, self.first(x.flatten(1)))))


def skipping(draw: Callable[[], float]) -> Callable[[nn.Module, Tensor], Any]:
    return lambda block, x: block(x) if draw() < 0.5 else x + 0 * block(x)


def weights(backend: Any, rounding: Rounding, settings: dict[str, Any]) -> Tensor:
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = Network(**settings)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    scheme = RoundingScheme(rounding=rounding)
    # Powers of two: torch's own update multiplies and adds with a single rounding.
    rates: dict[str, Any] = {"learning_rate": 2**-6, "weight_decay": 2**-11}
    train(
        network, noise(), PRECISION, epochs=3, batch_size=8, backend=backend, scheme=scheme, **rates
    )
    random.setstate(state)
    np.random.set_state(numpy_state)  # noqa: NPY002
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounterWithBackend]:
    """The graph of the step as it was traced, run by torch itself; counts the graphs."""
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(STEP._training_step, dynamic=False, fullgraph=True, backend=counter)
    monkeypatch.setattr(STEP, "_compiled", lambda: compiled)
    step: Any = importlib.import_module("optuna_peppp.lowprecision.training.step")
    monkeypatch.setattr(step, "can_compile", lambda: True)
    torch._dynamo.reset()
    yield counter
    torch._dynamo.reset()


@pytest.mark.parametrize("form", [lambda y: y.log_softmax(1), lambda y: y.unsqueeze(1).squeeze(1)])
def test_logits_of_any_form_are_one_graph(
    traced: CompileCounterWithBackend, form: Callable[[Tensor], Tensor]
) -> None:
    settings = {"form": form}
    expected = weights("eager", "stochastic", settings)
    assert torch.equal(weights("compiled", "stochastic", settings), expected)
    assert traced.frame_count == 1


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_are_trained_eagerly(
    traced: CompileCounterWithBackend, reentrant: bool, rounding: Rounding
) -> None:
    settings = {"run": lambda block, x: checkpoint(block, x, use_reentrant=reentrant)}
    with pytest.warns(UserWarning, match="cannot compile this training step"):
        compiled = weights("compiled", rounding, settings)
    assert torch.equal(compiled, weights("eager", rounding, settings))
    assert torch.equal(compiled, weights("eager", rounding, {}))


@pytest.mark.parametrize(
    "draw",
    [random.random, np.random.rand, lambda: torch.rand(()).item()],
)
def test_no_random_decision_is_compiled_for_ever(
    traced: CompileCounterWithBackend, draw: Callable[[], float]
) -> None:
    settings = {"run": skipping(draw)}
    with pytest.warns(UserWarning, match="cannot compile this training step"):
        compiled = weights("compiled", "nearest", settings)
    assert torch.equal(compiled, weights("eager", "nearest", settings))
    assert not torch.equal(compiled, weights("eager", "nearest", {}))


@pytest.mark.parametrize("name", ["vit", "gpt"])
def test_a_transformer_is_one_graph_for_all_precisions(
    traced: CompileCounterWithBackend, name: Any
) -> None:
    counting = torch.arange(100, dtype=torch.uint8)
    data = noise() if name == "vit" else TextData("counting", counting, counting[:10], context=4)

    def trained(backend: Any, format_a: str) -> Tensor:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            network = build_model(name, data.num_classes, data.input_shape, width=16, depth=1)
        start = torch.cat([p.detach().flatten() for p in network.parameters()])
        precision = Precision.parse(format_a, "1-6-9")
        train(network, data, precision, optimizer="adamw", epochs=2, batch_size=8, backend=backend)
        return torch.cat([p.detach().flatten() for p in network.parameters()]) - start

    formats = ("1-4-3", "1-5-3")
    compiled = [trained("compiled", format_a) for format_a in formats]
    assert traced.frame_count == 1
    for format_a, found in zip(formats, compiled, strict=True):
        # Sums of another order fall to the other side of a rounding now and then.
        eager = trained("eager", format_a)
        assert float((found - eager).norm()) < 0.05 * float(eager.norm())
    assert float((compiled[0] - compiled[1]).norm()) > 0.1 * float(compiled[0].norm())
