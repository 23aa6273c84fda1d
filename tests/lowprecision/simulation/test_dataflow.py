from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from optuna_peppp.configurations.precision import Precision
from optuna_peppp.lowprecision import LowPrecisionModule, Quantizer, RoundingScheme, quantize
from optuna_peppp.lowprecision.rounding.quantize import ROUNDINGS, Rounding
from optuna_peppp.lowprecision.simulation.dataflow import roles_of

PRECISION = Precision.parse("1-3-1", "1-6-9")
X = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
Form = Callable[[Tensor], Any]


class Named(NamedTuple):
    number: int
    logits: Tensor


@dataclass(frozen=True)
class Frozen:
    logits: Tensor
    loss: Tensor | None = None


@dataclass(slots=True)
class Slotted:
    inner: Frozen
    others: list[Tensor]


class Network(nn.Module):
    def __init__(self, form: Form) -> None:
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Linear(8, 32), nn.ReLU())
            self.head = nn.Linear(32, 10)
        self.form = form

    def forward(self, x: Tensor) -> Any:
        return self.form(self.head(self.body(x)))


FORMS: dict[str, tuple[Form, Callable[[Any], Tensor]]] = {
    "tuple": (lambda y: (y,), lambda o: o[0]),
    "list": (lambda y: [None, y], lambda o: o[1]),
    "dict": (lambda y: {"a": {"b": y}}, lambda o: o["a"]["b"]),
    "named tuple": (lambda y: Named(3, y), lambda o: o.logits),
    "dataclass": (Frozen, lambda o: o.logits),
    "nested dataclass": (lambda y: Slotted(Frozen(y), [y]), lambda o: o.inner.logits),
    "view": (lambda y: y.view(2, 2, 10), lambda o: o.flatten(0, 1)),
    "reshaped": (lambda y: y.reshape(-1), lambda o: o.view(4, 10)),
    "squeezed": (lambda y: y.unsqueeze(1).squeeze(1), lambda o: o),
    "transposed": (lambda y: y.t(), lambda o: o.t()),
    "copied": (lambda y: y.t().reshape(-1), lambda o: o.view(10, 4).t()),
    "joined": (lambda y: torch.cat([y, y]), lambda o: o[4:]),
    "halves": (lambda y: y.chunk(2), lambda o: torch.cat(o)),
    "in place": (lambda y: y.mul_(2), lambda o: o / 2),
}


def answer(form: Form, rounding: Rounding, training: bool) -> tuple[Any, Network]:
    scheme, generator = RoundingScheme(rounding=rounding), torch.Generator().manual_seed(0)
    network = Network(form).train(training)
    low = LowPrecisionModule(network, Quantizer(PRECISION, scheme, generator))
    with torch.set_grad_enabled(training):
        return low(X), network


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", FORMS)
def test_the_form_of_the_output_changes_no_number(
    name: str, rounding: Rounding, training: bool
) -> None:
    form, logits_of = FORMS[name]
    expected, plain = answer(lambda y: y, rounding, training)
    output, network = answer(form, rounding, training)
    assert type(output) is type(form(torch.zeros(4, 10)))
    assert torch.equal(logits_of(output), expected)
    assert not torch.equal(expected, quantize(expected, PRECISION.format_a))
    if training:
        expected.square().sum().backward()
        torch.autograd.backward(logits_of(output).square().sum())
        for ours, theirs in zip(network.parameters(), plain.parameters(), strict=True):
            assert ours.grad is not None
            assert theirs.grad is not None
            # Gradients of halves and doubles are scaled by powers of two, or added.
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=2e-2, atol=1e-2)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("function", [torch.log_softmax, torch.softmax])
def test_a_function_of_the_logits(function: Any, training: bool) -> None:
    logits, _ = answer(lambda y: y, "nearest", training)
    output, _ = answer(lambda y: function(y, 1), "nearest", training)
    assert torch.equal(output, quantize(function(logits, 1), PRECISION.format_b))


def test_the_gradient_of_the_logits_is_rounded_whatever_follows_them() -> None:
    gradients: list[Tensor] = []

    def seen(y: Tensor) -> Tensor:
        y.register_hook(lambda g: gradients.append(g))  # type: ignore[no-untyped-call] # as it comes, and goes on rounded
        return torch.log_softmax(y, 1)

    output, network = answer(seen, "nearest", True)
    output[:, 0].sum().backward()
    rounded = quantize(gradients[0], PRECISION.format_b)
    assert not torch.equal(rounded, gradients[0])
    assert network.head.bias.grad is not None
    torch.testing.assert_close(network.head.bias.grad, rounded.sum(0))


def calls(module: nn.Module, *inputs: Any) -> list[tuple[str, int]]:
    return sorted(roles_of(module, (inputs, {})).logits)


class Heads(nn.Module):
    """Two outputs of its own, one of them for training only, and features that go on."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.first, self.second = nn.Linear(8, 6), nn.Linear(6, 3), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.body(x)
        output = {"boxes": self.first(features).sigmoid() * 2, "features": features}
        if self.training:
            output["scores"] = self.second(features)[:, :1]
        return output


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.tanh(self.cell(x))
        return x


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.block = nn.Linear(8, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        output: Tensor = x + self.block(x)
        return output


class Written(nn.Module):
    """Puts its output together in a tensor of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        output = torch.zeros(len(x), 4)
        output[:, :2] = self.head(x)
        output[:, 2:] = self.head(-x)
        return output


class Recomputed(Residual):
    def forward(self, x: Tensor) -> Tensor:
        output = checkpoint(self.block, self.first(x), use_reentrant=True)
        assert isinstance(output, Tensor)
        return output.exp()


class DataDependent(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if float(x.sum()) < 1e9 else x


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Heads(), [("first", 0), ("second", 0)]),
        (Heads().eval(), [("first", 0)]),
        (Recurrent(), [("cell", 2)]),
        (Residual(), [("block.1", 0)]),
        (Written(), [("head", 0), ("head", 1)]),
        (Recomputed(), [("block.1", 0)]),
        (DataDependent(), [("block.1", 0)]),
        (nn.Linear(8, 2), []),
        (nn.Sequential(nn.Linear(8, 4), nn.Unflatten(1, (2, 2))), [("0", 0), ("1", 0)]),
        (nn.Sequential(nn.Linear(8, 4), nn.ReLU(inplace=True)), [("1", 0)]),
        (nn.Sequential(nn.Linear(8, 4), nn.LogSoftmax(1)), [("1", 0)]),
        (nn.Sequential(nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 4))), [("0.1", 0)]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_which_calls_compute_the_logits(
    network: nn.Module, expected: list[tuple[str, int]]
) -> None:
    assert calls(network, X) == expected


def test_features_that_go_on_stay_activations() -> None:
    network = Heads()
    output = LowPrecisionModule(network, Quantizer(PRECISION))(X)
    a, b = PRECISION.format_a, PRECISION.format_b
    assert torch.equal(output["features"], quantize(output["features"], a))
    for name in ("boxes", "scores"):
        assert torch.equal(output[name], quantize(output[name], b))
        assert not torch.equal(output[name], quantize(output[name], a))


def test_the_network_and_the_random_states_are_left_as_they_were() -> None:
    class Drawing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head, self.calls = nn.BatchNorm1d(8), nn.Linear(8, 2), 0

        def forward(self, x: Tensor) -> Any:
            self.calls += 1
            drawn = random.random() + np.random.rand() + torch.rand(()).item()  # noqa: NPY002
            return self.head(nn.functional.dropout(self.norm(x))) * drawn

    seen: list[Any] = []
    network = Drawing()
    network.head.register_forward_hook(lambda module, inputs, output: seen.append(output))
    network.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))

    def states() -> list[Any]:
        numpy_state = np.random.get_state()  # noqa: NPY002
        return [random.getstate(), str(numpy_state), torch.get_rng_state().tolist(), network.calls]

    before, values = states(), {n: v.clone() for n, v in network.state_dict().items()}
    with saved_tensors_hooks(lambda x: seen.append(x), lambda x: x):
        assert calls(network, X) == [("head", 0)]
    assert states() == before
    assert seen == []
    assert all(torch.equal(value, values[name]) for name, value in network.state_dict().items())


def test_tensors_without_data_are_taken() -> None:
    network = Network(lambda y: y.softmax(1))
    low = LowPrecisionModule(network, Quantizer(PRECISION))
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        assert low(mode.from_tensor(X)).shape == (4, 10)
    assert torch.equal(low(X), answer(lambda y: y.softmax(1), "nearest", True)[0])


def test_a_network_that_cannot_be_tried_runs_all_the_same() -> None:
    class Uncopied(Network):
        def __deepcopy__(self, memo: object) -> Any:
            raise TypeError

    network = Uncopied(lambda y: y)
    assert calls(network, X) == []
    output = LowPrecisionModule(network, Quantizer(PRECISION))(X)
    assert torch.equal(output, answer(lambda y: y, "nearest", True)[0])


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize(
    "normalized", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm]
)
def test_weights_that_are_computed(normalized: Callable[[nn.Module], nn.Module]) -> None:
    network = nn.Sequential(normalized(nn.Linear(8, 4)), nn.Tanh(), nn.Linear(4, 2))
    network(X)
    assert calls(network, X) == [("2", 0)]
