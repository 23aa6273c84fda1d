from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.names import Network
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.configurations.roles import Role
from optuna_peppp.lowprecision import (
    LowPrecisionModule,
    Quantizer,
    RoundingScheme,
    build_model,
    quantize,
)
from optuna_peppp.lowprecision.rounding.rounder import Rounder
from optuna_peppp.lowprecision.rounding.scheme import DEFAULT_SCHEME

A, B = FloatFormat(3, 1), FloatFormat(6, 7)
PRECISION = Precision(A, B)
DEEP = Precision(FloatFormat(5, 3), B)
"""Fine enough that the small initial weights of a deep network do not all become zero."""
UNROUNDED = RoundingScheme(
    weights=None,
    activations=None,
    activation_gradients=None,
    input=None,
    logits=None,
)
PASSES: tuple[Role, ...] = ("weights", "activations", "activation_gradients", "input", "logits")


@dataclass(frozen=True)
class Recorder(Quantizer):
    """A quantizer that keeps what it was given, what it answered and with which stream."""

    calls: list[tuple[Role, Tensor, Tensor]] = field(default_factory=list)
    streams: list[tuple[Role, int]] = field(default_factory=list)

    def rounder(self, device: torch.device) -> Rounder:
        plain = Quantizer.rounder(self, device)
        return RecordingRounder(
            plain.recipe, plain.generator, plain.formats, plain.keys, recorder=self
        )

    def roles(self) -> list[Role]:
        return [role for role, _, _ in self.calls]


@dataclass(frozen=True)
class RecordingRounder(Rounder):
    recorder: Recorder | None = None

    def __call__(self, x: Tensor, role: Role, index: int = 0) -> Tensor:
        rounded = Rounder.__call__(self, x, role, index)
        assert self.recorder is not None
        self.recorder.calls.append((role, x.detach().clone(), rounded.detach().clone()))
        self.recorder.streams.append((role, index))
        return rounded


class Spy(nn.Module):
    """The identity; keeps what passes through it, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Tensor] = []
        self.gradients: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.values.append(x.detach().clone())
        passed: Tensor = SpyFunction.apply(x, self)
        return passed


class SpyFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, spy: Spy) -> Tensor:
        ctx.spy = spy
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.spy.gradients.append(gradient.clone())
        return gradient, None


def low(
    module: nn.Module, scheme: RoundingScheme = DEFAULT_SCHEME, precision: Precision = PRECISION
) -> LowPrecisionModule:
    return LowPrecisionModule(module, Quantizer(precision, scheme))


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seeded(build: type[nn.Module], *arguments: Any, **options: Any) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return build(*arguments, **options)


def is_in(x: Tensor, fmt: FloatFormat) -> bool:
    """Whether rounding changes nothing; false for tensors that show nothing."""
    return torch.equal(quantize(x, fmt), x) and bool((x != 0).any())


def hooks(module: nn.Module) -> int:
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
        for m in module.modules()
    )


def gradients(module: nn.Module) -> list[Tensor | None]:
    return [parameter.grad for parameter in module.parameters()]


def test_straight_through_estimator_by_hand() -> None:
    first, second = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(first.weight, 0.7)
    nn.init.constant_(second.weight, 1.3)
    x = torch.tensor([[1.1]], requires_grad=True)
    logits = low(nn.Sequential(first, second))(x)
    # 1-3-1 holds 0.5, 0.75, 1, 1.5; weights become 0.75 and 1.5. In 1-6-7 the input is 141 / 128.
    # The hidden 0.75 * 141 / 128 = 0.826 becomes 0.75.
    assert logits.tolist() == [[0.75 * 1.5]]
    logits.backward(torch.tensor([[0.3]]))
    # 0.3 becomes 154 / 512; times 1.5 that is 0.451, which becomes 0.5 as the hidden gradient.
    assert second.weight.grad is not None
    assert first.weight.grad is not None
    assert x.grad is not None
    assert second.weight.grad.tolist() == [[0.75 * 154 / 512]]
    assert first.weight.grad.tolist() == [[0.5 * 141 / 128]]
    assert x.grad.tolist() == [[0.5 * 0.75]]
    # The parameters themselves are as they were.
    assert first.weight.item() == pytest.approx(0.7)
    assert second.weight.item() == pytest.approx(1.3)


def two_layers(
    scheme: RoundingScheme, x: Tensor, w1: Tensor, w2: Tensor, gradient: Tensor
) -> list[Tensor]:
    """The oracle: logits and gradients of two linear layers, written out."""

    def rounded(value: Tensor, choice: str | None) -> Tensor:
        return value if choice is None else quantize(value, A if choice == "A" else B)

    x, w1, w2 = rounded(x, scheme.input), rounded(w1, scheme.weights), rounded(w2, scheme.weights)
    hidden = rounded(x @ w1.t(), scheme.activations)
    logits = rounded(hidden @ w2.t(), scheme.logits)
    gradient = rounded(gradient, scheme.logits)
    hidden_gradient = rounded(gradient @ w2, scheme.activation_gradients)
    return [logits, hidden_gradient.t() @ x, gradient.t() @ hidden, hidden_gradient @ w1]


@pytest.mark.parametrize("choice", ["A", "B", None])
@pytest.mark.parametrize("role", PASSES)
def test_every_choice_of_the_scheme(role: Role, choice: str | None) -> None:
    scheme = replace(RoundingScheme(), **{role: choice})  # type: ignore[arg-type]
    w1, w2 = images(4, 3, seed=1), images(2, 4, seed=2)
    x, gradient = images(5, 3, seed=3), images(5, 2, seed=4)
    network = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False))
    network.load_state_dict({"0.weight": w1, "1.weight": w2})
    given = x.clone().requires_grad_()
    logits = low(network, scheme)(given)
    logits.backward(gradient)
    results = [logits.detach(), *gradients(network), given.grad]
    torch.testing.assert_close(
        results, two_layers(scheme, x, w1, w2, gradient), rtol=1e-6, atol=1e-6
    )
    if scheme != RoundingScheme():
        default = two_layers(RoundingScheme(), x, w1, w2, gradient)
        assert any(
            not torch.allclose(ours, theirs)
            for ours, theirs in zip(results, default, strict=True)
            if ours is not None
        )


@pytest.mark.parametrize("training", [True, False])
def test_input_and_logits_in_b_everything_between_in_a(training: bool) -> None:
    spies = [Spy() for _ in range(6)]
    network = nn.Sequential(
        spies[0],
        seeded(nn.Conv2d, 3, 8, 3),
        spies[1],
        nn.BatchNorm2d(8),
        spies[2],
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        spies[3],
        nn.Dropout(0.3),
        nn.Flatten(),
        spies[4],
        seeded(nn.Linear, 72, 10),
        spies[5],
        seeded(nn.Linear, 10, 4),
    ).train(training)
    logits = low(network)(images(4, 3, 8, 8))
    logits.backward(images(4, 4, seed=1))
    assert is_in(spies[0].values[0], B)
    assert not is_in(spies[0].values[0], A)
    assert is_in(logits.detach(), B)
    assert not is_in(logits.detach(), A)
    for spy in spies[1:]:
        assert is_in(spy.values[0], A)
        assert is_in(spy.gradients[0], A)


def test_weights_are_seen_in_a_and_kept_as_they_are() -> None:
    network = seeded(nn.Linear, 6, 5)
    before = [p.detach().clone() for p in network.parameters()]
    seen: list[Tensor] = []

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        seen.extend([module.weight.detach().clone(), module.bias.detach().clone()])  # type: ignore[operator]

    handle = network.register_forward_hook(look)
    low(network)(images(2, 6))
    handle.remove()
    for parameter, rounded, value in zip(network.parameters(), seen, before, strict=True):
        assert is_in(rounded, A)
        assert torch.equal(rounded, quantize(value, A))
        assert torch.equal(parameter, value)


def test_the_output_of_a_container_is_rounded_once() -> None:
    recorder = Recorder(PRECISION)
    inner = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Sequential(nn.Linear(4, 2)))
    network = LowPrecisionModule(nn.Sequential(inner), recorder)
    logits = network(images(5, 3))
    roles = recorder.roles()
    assert roles.count("activations") == 2
    assert roles.count("logits") == 1
    # What becomes the logits was not rounded as an activation before.
    _, before, after = recorder.calls[-1]
    assert not is_in(before, A)
    assert torch.equal(after, quantize(before, B))
    assert torch.equal(logits, after)
    recorder.calls.clear()
    logits.sum().backward()
    assert sorted(recorder.roles()) == ["activation_gradients"] * 2 + ["logits"]


def test_a_network_of_one_layer() -> None:
    network = seeded(nn.Linear, 6, 5)
    recorder = Recorder(PRECISION)
    x = images(3, 6)
    logits = LowPrecisionModule(network, recorder)(x)
    weight, bias = (quantize(p.detach(), A) for p in network.parameters())
    plain = nn.functional.linear(quantize(x, B), weight, bias)
    assert torch.equal(logits, quantize(plain, B))
    assert recorder.roles() == ["weights", "input", "logits"]


class OutOfPlace(nn.Module):
    """torchvision's basic block without an operation in place."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.conv1, self.bn1, self.conv2, self.bn2 = block.conv1, block.bn1, block.conv2, block.bn2
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.relu1(self.bn1(self.conv1(x)))
        output: Tensor = self.relu2(self.bn2(self.conv2(hidden)) + x)
        return output


def test_a_residual_block_that_works_in_place() -> None:
    block = seeded(BasicBlock, 4, 4)
    results = []
    for body in (block, OutOfPlace(block)):
        spy = Spy()
        head = seeded(nn.Linear, 4, 2)
        network = nn.Sequential(
            seeded(nn.Conv2d, 3, 4, 3), body, spy, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
        )
        network.zero_grad()
        logits = low(network)(images(2, 3, 6, 6))
        logits.backward(images(2, 2, seed=1))
        assert is_in(spy.values[0], A)
        results.append([logits.detach(), spy.values[0], spy.gradients[0], *gradients(network)])
    assert all(gradient is not None for gradient in results[0])
    for ours, theirs in zip(*results, strict=True):
        assert ours is not None
        assert theirs is not None
        assert torch.equal(ours, theirs)


def test_the_sum_of_a_residual_block_is_rounded_once_by_hand() -> None:
    """relu(q(branch) + identity) is rounded, and nothing between them."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Linear(1, 1, bias=False)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.branch(x)
            out += x
            rectified: Tensor = self.relu(out)
            return rectified

    spy = Spy()
    network = nn.Sequential(Residual(), spy, nn.Linear(1, 1))
    nn.init.ones_(network[0].branch.weight)  # type: ignore[union-attr, arg-type]
    low(network)(torch.tensor([[1.125], [-1.125]]))
    # The branch rounds 1.125 to 1; the sum 2.125 becomes 2.
    assert spy.values[0].tolist() == [[2.0], [0.0]]


def test_without_rounding_it_is_the_module_itself() -> None:
    network = seeded_model("resnet18")
    outputs, grads = [], []
    for module in (low(network, UNROUNDED), network):
        network.load_state_dict(seeded_model("resnet18").state_dict())
        network.zero_grad()
        output = module(images(2, 3, 8, 8))
        output.square().sum().backward()
        outputs.append(output.detach())
        grads.append([g.clone() for g in gradients(network) if g is not None])
    assert torch.equal(*outputs)
    assert len(grads[0]) == len(list(network.parameters()))
    assert all(map(torch.equal, *grads))


def seeded_model(name: Network) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return build_model(name, 3, (3, 8, 8))


def test_a_module_in_place_leaves_the_users_input() -> None:
    x = images(3, 4)
    before = x.clone()
    for scheme in (RoundingScheme(), replace(RoundingScheme(), input=None)):
        low(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2)), scheme)(x)
        assert torch.equal(x, before)


def test_the_users_module_is_left_as_it_was() -> None:
    network = seeded_model("resnet18")
    network.register_forward_hook(lambda module, inputs, output: None)
    parameters = dict(network.named_parameters())
    values = {name: p.detach().clone() for name, p in parameters.items()}
    low(network)(images(2, 3, 8, 8)).sum().backward()
    assert hooks(network) == 1
    assert list(dict(network.named_parameters())) == list(parameters)
    for name, parameter in network.named_parameters():
        assert parameter is parameters[name]
        assert torch.equal(parameter, values[name])
        assert parameter.grad is not None
    # Batch norm went on counting in the user's own buffers.
    assert network.get_buffer("bn1.num_batches_tracked").item() == 1
    network(images(2, 3, 8, 8))


def test_no_hook_is_left_by_a_forward_that_fails() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 2))
    weight = network[0].weight
    with pytest.raises(RuntimeError, match="shapes"):
        low(network)(images(2, 3))
    assert hooks(network) == 0
    assert network[0].weight is weight


class Structured(nn.Module):
    """Takes and gives tensors inside other things."""

    def __init__(self) -> None:
        super().__init__()
        self.split = Split()
        self.spy = Spy()

    def forward(self, batch: dict[str, Tensor], *, scale: Tensor) -> dict[str, Any]:
        first, rest = self.split(batch["x"] * scale)
        return {
            "sum": self.spy(first) + rest["second"],
            "parts": (first, rest["count"]),
            "labels": batch["labels"],
        }


class Split(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0]))

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Any]]:
        return x * self.weight, {"second": x * 1.3, "count": 7}


def test_structures_are_rounded_within() -> None:
    network = Structured()
    labels = torch.arange(3)
    x, scale = images(3, 4), torch.tensor(1.1)
    output = low(network)({"x": x, "labels": labels}, scale=scale)
    inner = quantize(x, B) * quantize(scale, B)
    first, second = quantize(inner, A), quantize(inner * 1.3, A)
    assert torch.equal(network.spy.values[0], first)
    assert torch.equal(output["sum"], quantize(first + second, B))
    assert torch.equal(output["parts"][0], quantize(first, B))
    assert output["parts"][1] == 7
    assert output["labels"] is labels


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_without_gradients_the_numbers_are_the_same(guard: Any) -> None:
    network = seeded_model("resnet18").eval()
    x = images(2, 3, 8, 8)
    expected = low(network, precision=DEEP)(x)
    assert bool(expected.all())
    with guard():
        output = low(network, precision=DEEP)(x.clone())
    assert not output.requires_grad
    assert torch.equal(output, expected)


def test_a_weight_that_is_not_used_has_no_gradient() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Any:
            return self.used(x)

    network = Unused()
    low(network)(images(2, 3)).sum().backward()
    assert network.used.weight.grad is not None
    assert network.unused.weight.grad is None


def test_frozen_and_tied_weights() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight
            self.head = nn.Linear(3, 2).requires_grad_(False)

        def forward(self, x: Tensor) -> Any:
            return self.head(self.second(self.first(x)))

    network = Tied()
    low(network, UNROUNDED)(images(4, 3)).square().sum().backward()
    ours = network.first.weight.grad
    assert ours is not None
    network.first.weight.grad = None
    network(images(4, 3)).square().sum().backward()
    torch.testing.assert_close(ours, network.first.weight.grad)
    assert network.second.weight is network.first.weight
    assert network.head.weight.grad is None


def test_a_module_that_is_called_twice() -> None:
    spy = Spy()
    relu, linear = nn.ReLU(inplace=True), seeded(nn.Linear, 4, 4)
    network = nn.Sequential(linear, relu, spy, linear, relu, spy, nn.Linear(4, 2))
    low(network)(images(3, 4)).sum().backward()
    assert len(spy.values) == 2
    for value in spy.values:
        assert is_in(value, A)
    assert hooks(network) == 0


def test_stochastic_passes_draw_from_the_generator() -> None:
    network = seeded_model("plain3").eval()
    scheme = RoundingScheme(rounding="stochastic")
    x = images(2, 3, 8, 8)
    outputs = []
    for seed in (0, 0, 1):
        generator = torch.Generator().manual_seed(seed)
        state = torch.random.get_rng_state()
        outputs.append(LowPrecisionModule(network, Quantizer(DEEP, scheme, generator))(x))
        assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_no_two_tensors_of_a_pass_share_their_randomness() -> None:
    recorder = Recorder(DEEP, RoundingScheme(rounding="stochastic"))
    network = LowPrecisionModule(seeded_model("resnet18"), recorder)
    network(images(2, 3, 8, 8)).sum().backward()
    assert len(set(recorder.streams)) == len(recorder.streams) > 80


def test_a_container_that_works_in_place_is_told() -> None:
    class Shifted(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return output.add_(0.3)

    plain = low(nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2)))
    plain(images(5, 3))
    assert not plain.outputs.container_in_place
    shifted = low(nn.Sequential(Shifted(nn.Linear(3, 4)), nn.Linear(4, 2)))
    shifted(images(5, 3))
    assert shifted.outputs.container_in_place


@pytest.mark.parametrize("name", ["plain3", "resnet18", "vgg11"])
def test_named_networks_run_forward_and_backward(name: Network) -> None:
    size = 32 if name == "vgg11" else 8
    network = build_model(name, 3, (3, size, size))
    logits = low(network, precision=DEEP)(images(2, 3, size, size))
    logits.sum().backward()
    assert is_in(logits.detach(), B)
    for gradient in gradients(network):
        assert gradient is not None
        assert bool(gradient.any())


def test_a_module_without_parameters() -> None:
    quantizer = Quantizer(Precision.parse("1-3-1", "1-6-7"))
    x = torch.tensor([[0.3, -1.0]])
    torch.testing.assert_close(
        LowPrecisionModule(nn.ReLU(), quantizer)(x), x.clamp(min=0), rtol=0.01, atol=0
    )


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize(
    ("setting", "remedy"),
    [({"max_norm": 1.0}, "make it without max_norm"), ({"sparse": True}, "with sparse=False")],
    ids=str,
)
def test_embeddings_that_cannot_be_rounded_are_named(
    kind: type[nn.Module], setting: dict[str, Any], remedy: str
) -> None:
    network = nn.Sequential(nn.Sequential(kind(5, 3, **setting)), nn.Linear(3, 2))
    message = rf"module '0.0' \({kind.__name__}\) has {next(iter(setting))}=.*{remedy}"
    with pytest.raises(ValueError, match=message):
        low(network)


def test_replicas_are_refused() -> None:
    with pytest.raises(ValueError, match=r"nn.DataParallel.*give its attribute module"):
        low(nn.DataParallel(nn.Linear(3, 2)))


def test_it_can_be_copied_and_stored() -> None:
    network, x = low(seeded_model("plain3")), images(2, 3, 8, 8)
    expected = network(x)
    for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(copied(x), expected)
    assert list(network.state_dict()) == [f"module.{name}" for name in network.module.state_dict()]


def test_other_weights_by_functional_call() -> None:
    network, x = low(seeded_model("plain3")), images(2, 3, 8, 8)
    weights = {name: p.detach().clone() for name, p in network.named_parameters()}
    expected = network(x)
    for p in network.parameters():
        p.data.zero_()
    output = torch.func.functional_call(network, weights, (x,))
    assert torch.equal(output, expected)


def test_recurrent_weights_are_rounded() -> None:
    network = seeded(nn.LSTM, 3, 4, 2, batch_first=True)
    x = images(2, 5, 3)
    rounded = copy.deepcopy(network)
    for p in rounded.parameters():
        p.data = quantize(p.data, A)
    network.flatten_parameters()  # type: ignore[operator]
    output, _ = low(network)(x)
    assert torch.equal(output, quantize(rounded(quantize(x, B))[0], B))
    output.sum().backward()
    assert all(gradient is not None for gradient in gradients(network))
