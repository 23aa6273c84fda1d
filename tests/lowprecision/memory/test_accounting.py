from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.names import Accounting, Network, OptimizerName
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.roles import Role
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.lowprecision import (
    MemoryUsage,
    RoundingScheme,
    build_model,
    memory_vector,
    training_memory,
)
from optuna_peppp.lowprecision.memory.accounting import count

EIGHT = Precision.parse("1-4-3", "1-6-9")
"""8 and 16 bits: bytes are numbers, or twice as many."""
MIB = 2**20


def linear(hidden: int = 5) -> nn.Module:
    return nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 3))


def without_data(name: Network, classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """A named network whose weights take no memory: the count needs none."""
    with torch.device("meta"):
        return build_model(name, classes, shape)


def test_a_linear_network_by_hand() -> None:
    # 4 x 5 + 5 + 5 x 3 + 3 = 43 weights. An image saves its 4 inputs and its 5 rectified values.
    assert training_memory(linear(), (4,), 7, EIGHT) == MemoryUsage(43, 7 * 9, 2 * 3 * 43)
    usage = training_memory(linear(), (4,), 7, Precision.parse("1-3-1", "1-6-7"))
    # 5 and 14 bits, every part rounded up to bytes.
    assert usage == MemoryUsage(
        math.ceil(43 * 5 / 8), math.ceil(63 * 5 / 8), math.ceil(3 * 43 * 14 / 8)
    )
    assert usage.total == usage.weights + usage.activations + usage.optimizer == 27 + 40 + 226


@pytest.mark.parametrize(("optimizer", "states"), [("sgd", 3), ("adam", 4), ("adamw", 4)])
def test_what_the_optimizer_keeps(optimizer: OptimizerName, states: int) -> None:
    """Gradients, accumulators and momentum; the Adams remember two numbers of every weight."""
    usage = training_memory(linear(), (4,), 7, EIGHT, optimizer=optimizer)
    assert usage.optimizer == 2 * states * 43


@pytest.mark.parametrize("accounting", ["saved-tensors", "paper"])
@pytest.mark.parametrize("role", get_args(Role))
def test_a_role_has_the_bits_that_its_scheme_gives(accounting: Accounting, role: Role) -> None:
    """Another choice of one role costs its numbers the difference in bits, and no other part."""
    model = without_data("resnet18", 10, (3, 8, 8))
    precision = Precision.parse("1-4-3", "1-6-9")  # 8 and 16 bits

    def usage(**choice: Any) -> MemoryUsage:
        scheme = replace(RoundingScheme(), **choice)
        return training_memory(model, (3, 8, 8), 2, precision, accounting, scheme=scheme)

    usual, a, b, none = (usage(), *(usage(**{role: choice}) for choice in ("A", "B", None)))
    assert usual in (a, b)
    numbers = b.total - a.total
    assert none.total - b.total == 2 * numbers
    parameters = sum(p.numel() for p in model.parameters())
    if role in ("weights", "momentum", "accumulators"):
        assert numbers == parameters
    if role == "weight_gradients":  # transient, in the paper's
        assert numbers == (parameters if accounting == "saved-tensors" else 0)
    part = "weights" if role == "weights" else "activations"
    if role in ("weight_gradients", "momentum", "accumulators"):
        part = "optimizer"
    assert replace(a, **{part: getattr(b, part)}) == b


def test_a_scheme_in_float32_has_the_memory_of_float32() -> None:
    float32 = RoundingScheme(**dict.fromkeys(get_args(Role)))  # type: ignore[arg-type]
    usage = training_memory(linear(), (4,), 7, EIGHT, scheme=float32)
    assert usage == MemoryUsage(43 * 4, 7 * 9 * 4, 3 * 43 * 4)
    space = ConfigurationSpace.paper()
    vector = memory_vector(space, linear(), (4,), 7, scheme=float32)
    assert vector.tolist() == [usage.total] * 99


class Kept:
    """Counts the floats that the backward pass of known layers needs, on a real small batch.

    What each layer keeps is written down from its derivative: a convolution and a linear layer
    their input, batch norm its input and the mean and scale of every channel, ReLU its output,
    max pooling its input (and integers), a mean nothing. Two layers may keep the same memory.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self._tensors: dict[int, Tensor] = {}
        self._statistics = 0
        handles = [m.register_forward_hook(self._look) for m in model.modules()]
        model(images)
        for handle in handles:
            handle.remove()
        self.floats = self._statistics + sum(
            t.untyped_storage().nbytes() // 4 for t in self._tensors.values()
        )

    def _look(self, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if isinstance(layer, nn.BatchNorm2d):
            self._statistics += 2 * layer.num_features
        if isinstance(layer, nn.ReLU):
            self._keep(output)
        elif isinstance(layer, (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.MaxPool2d)):
            self._keep(inputs[0])

    def _keep(self, x: Tensor) -> None:
        self._tensors[x.untyped_storage().data_ptr()] = x


@pytest.mark.parametrize("name", ["resnet18", "vgg16", "plain3", "resnet34", "vgg11"])
def test_saved_tensors_are_those_that_the_derivatives_need(name: Network) -> None:
    model = build_model(name, 10, (3, 32, 32))
    usage = training_memory(model, (3, 32, 32), 2, EIGHT)
    assert usage.activations == Kept(model, torch.randn(2, 3, 32, 32)).floats


def test_saved_tensors_of_resnet18_by_hand() -> None:
    """Before each of its 20 convolutions and 20 batch norms, and before the linear layer.

    A block's two ReLUs keep what the next convolution keeps; the last one's output is kept by
    nobody else; the shortcut of a downsampling block shares its convolution's input.
    """
    stages = [(64, 32 * 32), (128, 16 * 16), (256, 8 * 8), (512, 4 * 4)]
    image = 3 * 32 * 32 + 2 * 64 * 32 * 32  # the image, and the stem before norm and after ReLU
    for position, (channels, pixels) in enumerate(stages):
        norms = 4 if position == 0 else 5
        image += (norms + 4) * channels * pixels
    image += 512
    statistics = 2 * (64 + 4 * 64 + 5 * (128 + 256 + 512))
    for batch in (1, 32):
        usage = training_memory(build_model("resnet18", 10, (3, 32, 32)), (3, 32, 32), batch, EIGHT)
        assert usage.activations == batch * image + statistics


def test_saved_tensors_of_vgg16_by_hand() -> None:
    """The image, the output of every rectified convolution, and every pooled image but the last.

    The average keeps nothing of that one; the linear layer keeps 512 averages.
    """
    convolutions = 2 * 64 * 32**2 + 2 * 128 * 16**2 + 3 * 256 * 8**2 + 3 * 512 * 4**2
    convolutions += 3 * 512 * 2**2
    pooled = 64 * 16**2 + 128 * 8**2 + 256 * 4**2 + 512 * 2**2
    image = 3 * 32**2 + convolutions + pooled + 512
    for batch in (1, 32):
        usage = training_memory(without_data("vgg16", 10, (3, 32, 32)), (3, 32, 32), batch, EIGHT)
        assert usage.activations == batch * image


def test_a_tensor_counts_once() -> None:
    """Squaring saves its input, and both factors of a product may be one tensor."""

    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(6))

        def forward(self, x: Tensor) -> Tensor:
            scaled = x * self.weight
            return (scaled * scaled).view(2, 3) * scaled.view(3, 2).t()

    # x; scaled once, although saved three times and as views; the product. No weight.
    assert training_memory(Square(), (6,), 1, EIGHT).activations == 6 + 6 + 6


formats_a = st.builds(FloatFormat, st.integers(2, 8), st.integers(1, 23))


@settings(deadline=None, max_examples=25)
@given(formats_a, formats_a, st.booleans())
def test_more_bits_never_need_less(
    format_a: FloatFormat, format_b: FloatFormat, adam: bool
) -> None:
    optimizer: OptimizerName = "adam" if adam else "sgd"

    def total(a: FloatFormat, b: FloatFormat) -> int:
        return training_memory(linear(50), (4,), 3, Precision(a, b), optimizer=optimizer).total

    base = total(format_a, format_b)
    if format_a.exponent < 8:
        wider = FloatFormat(format_a.exponent + 1, format_a.mantissa)
        assert total(wider, format_b) > base
    if format_a.mantissa < 23:
        assert total(FloatFormat(format_a.exponent, format_a.mantissa + 1), format_b) > base
    if format_b.exponent < 8:
        wider = FloatFormat(format_b.exponent + 1, format_b.mantissa)
        assert total(format_a, wider) > base
    if format_b.mantissa < 23:
        assert total(format_a, FloatFormat(format_b.exponent, format_b.mantissa + 1)) > base


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 200))
def test_activations_grow_with_the_batch(batch: int) -> None:
    one, many = (training_memory(linear(), (4,), n, EIGHT) for n in (1, batch))
    assert many.activations == batch * one.activations
    assert (many.weights, many.optimizer) == (one.weights, one.optimizer)


@pytest.mark.parametrize("accounting", ["saved-tensors", "paper"])
def test_the_vector_holds_every_configuration(accounting: Accounting) -> None:
    space = ConfigurationSpace.paper()
    model = without_data("resnet18", 10, (3, 32, 32))
    vector = memory_vector(space, model, (3, 32, 32), 32, accounting)
    assert vector.shape == (99,)
    for index in (0, 1, 50, 98):
        precision = space.precision(index)
        usage = training_memory(model, (3, 32, 32), 32, precision, accounting)
        assert vector[index] == usage.total
    adam = ConfigurationSpace(
        {"learning_rate": [0.1, 0.01], "format_b": ["1-6-7"], "format_a": ["1-3-1"]}
    )
    expected = training_memory(
        linear(), (4,), 2, Precision.parse("1-3-1", "1-6-7"), optimizer="adam"
    )
    assert memory_vector(adam, linear(), (4,), 2, optimizer="adam").tolist() == [expected.total] * 2


def test_a_space_without_formats_has_no_memory() -> None:
    with pytest.raises(ValueError, match="the space must tune format_a and format_b"):
        memory_vector(ConfigurationSpace({"learning_rate": [0.1]}), linear(), (4,), 2)


def test_the_papers_accounting_reproduces_the_authors_matrix(shared: Path) -> None:
    with (shared / "peppp" / "tasks.csv").open() as file:
        tasks = {row["task"]: row for row in csv.DictReader(file)}
    expected: dict[str, list[float]] = {}
    with (shared / "peppp" / "corpus.csv").open() as file:
        for row in csv.DictReader(file):
            expected.setdefault(row["task"], []).append(float(row["memory"]))
    assert len(expected) == 87
    space = ConfigurationSpace.paper()
    ours: dict[tuple[int, int], NDArray[np.float64]] = {}
    for task, memory in expected.items():
        resolution, classes = int(tasks[task]["resolution"]), int(tasks[task]["classes"])
        if (resolution, classes) not in ours:
            shape = (3, resolution, resolution)
            model = without_data("resnet18", classes, shape)
            ours[resolution, classes] = memory_vector(space, model, shape, 32, "paper")
        np.testing.assert_allclose(
            ours[resolution, classes] / MIB, np.array(memory) / MIB, rtol=0, atol=1e-3
        )


def test_the_papers_accounting_by_hand() -> None:
    """A bits for the weights and all outputs twice; B bits for the rest (``_paper``)."""
    batch, classes, size = 5, 7, 16
    parameters = 11168832 + 513 * classes
    stages = [(64, 16**2), (128, 8**2), (256, 4**2), (512, 2**2)]
    outputs = 4 * 64 * 16**2 + 512 + 2 * classes + 3 * size**2
    for position, (channels, pixels) in enumerate(stages):
        outputs += (26 if position == 0 else 28) * channels * pixels
    usage = training_memory(
        without_data("resnet18", classes, (3, size, size)), (3, size, size), batch, EIGHT, "paper"
    )
    assert usage.weights == parameters
    assert usage.activations == batch * (2 * outputs + 2 * (3 * size**2 + 2 * classes))
    assert usage.optimizer == 2 * 2 * parameters


class Conditional(nn.Module):
    """Has layers that behave differently in training, a buffer, and a frozen part in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.frozen = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.calls: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        logits: Tensor = self.linear(self.dropout(self.frozen(self.norm(x))))
        return logits


@pytest.mark.parametrize("accounting", ["saved-tensors", "paper"])
def test_the_model_is_left_as_it_was(accounting: Accounting) -> None:
    paper = accounting == "paper"
    model = build_model("resnet18", 10, (3, 32, 32)) if paper else Conditional()
    model.train()
    frozen = "bn1" if paper else "frozen"
    model.get_submodule(frozen).eval()
    modes = [module.training for module in model.modules()]
    values = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = list(model.parameters())
    state = torch.random.get_rng_state()
    training_memory(model, (3, 32, 32) if paper else (4,), 8, EIGHT, accounting)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    for parameter, before in zip(model.parameters(), parameters, strict=True):
        assert parameter is before
        assert parameter.grad is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_it_counts_a_training_whatever_the_mode() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3)).eval()
    with torch.no_grad():
        usage = training_memory(model, (4,), 7, EIGHT)
    # The input, what ReLU lets through, the factors of dropout and what that lets through.
    assert usage.activations == 7 * (4 + 5 + 5 + 5)
    assert not any(module.training for module in model.modules())


def test_the_model_is_left_as_it_was_after_an_error() -> None:
    model = build_model("resnet18", 10, (3, 32, 32)).eval()
    accountings: tuple[Accounting, ...] = ("saved-tensors", "paper")
    for accounting in accountings:
        with pytest.raises(RuntimeError):
            training_memory(model, (4, 32, 32), 8, EIGHT, accounting)
        assert not any(m._forward_hooks or m.training for m in model.modules())


def test_frozen_parameters_need_no_optimizer() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    model[0].requires_grad_(False)
    usage = training_memory(model, (4,), 7, EIGHT)
    # All 43 weights are there, 18 of them trained; only the last layer keeps its 5 inputs.
    assert usage == MemoryUsage(43, 7 * 5, 2 * 3 * 18)
    model.requires_grad_(False)
    assert training_memory(model, (4,), 7, EIGHT) == MemoryUsage(43, 0, 0)


def test_tied_weights_count_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    usage = training_memory(model, (4,), 1, EIGHT)
    assert usage == MemoryUsage(16, 8, 2 * 3 * 16)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("plain3", (3, 32, 32)), ("vgg11", (3, 32, 32)), ("resnet18", (3, 65, 65))],
)
def test_the_papers_accounting_knows_resnets_for_small_images(
    name: Network, shape: tuple[int, int, int]
) -> None:
    model = without_data(name, 10, shape)
    with pytest.raises(ValueError, match=r"knows torchvision's ResNets .* use 'saved-tensors'"):
        training_memory(model, shape, 32, EIGHT, "paper")
    assert training_memory(model, shape, 32, EIGHT).total > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"accounting": "x"},
            "accounting must be 'saved-tensors', 'paper' or 'assignment'; got 'x'",
        ),
        (
            {"accounting": None},
            "accounting must be 'saved-tensors', 'paper' or 'assignment'; got None",
        ),
        ({"accounting": "papre"}, "got 'papre'. Did you mean 'paper'[?]"),
        ({"optimizer": "lion"}, "optimizer must be 'sgd', 'adam' or 'adamw'; got 'lion'"),
        ({"optimizer": "Adam"}, "got 'Adam'. Did you mean 'adam'[?]"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"batch_size": -3}, "batch_size must be at least 1; got -3"),
        ({"batch_size": 2.5}, "batch_size must be an integer; got 2.5"),
        ({"batch_size": "8"}, "batch_size must be an integer; got '8'"),
        ({"batch_size": True}, "batch_size must be an integer; got True"),
        ({"input_shape": (0, 4)}, r"input_shape must be the sizes .*; got \(0, 4\)"),
        ({"input_shape": (-4,)}, r"input_shape must be the sizes .*; got \(-4,\)"),
        ({"input_shape": (4.0,)}, r"input_shape must be the sizes .*; got \(4.0,\)"),
        ({"input_shape": 4}, "input_shape must be the sizes .*; got 4"),
        ({"input_shape": "444"}, "input_shape must be the sizes .*; got '444'"),
        ({"input_shape": None}, "input_shape and batch_size, or inputs, must be given; got .*None"),
        ({"batch_size": None}, "input_shape and batch_size, or inputs, must be given; got .*None"),
        ({"inputs": torch.rand(7, 4)}, "inputs must come alone.* got input_shape=.* too"),
        ({"inputs": torch.rand(7, 4), "input_shape": None}, "inputs must come alone"),
        ({"precision": None}, "precision must be a Precision; got None"),
        ({"precision": "1-4-3"}, "precision must be a Precision; got '1-4-3'"),
        ({"model": torch.relu}, "model must be a torch.nn.Module; got <built-in method relu"),
        ({"accounting": "paper", "optimizer": "adam"}, "'paper' knows optimizer 'sgd' only"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {"model": linear(), "input_shape": (4,), "batch_size": 7}
    with pytest.raises(ValueError, match=message):
        training_memory(**{**usual, "precision": EIGHT, **arguments})
    if "precision" not in arguments:
        with pytest.raises(ValueError, match=message):
            memory_vector(ConfigurationSpace.paper(), **{**usual, **arguments})


def test_sizes_of_other_types() -> None:
    usage = training_memory(linear(), (4,), 7, EIGHT)
    for shape in ([4], torch.Size([4]), (np.int64(4),)):
        assert training_memory(linear(), shape, np.int32(7), EIGHT) == usage  # type: ignore[arg-type]
    assert training_memory(linear(), inputs=torch.rand(7, 4), precision=EIGHT) == usage


def test_the_papers_accounting_takes_images() -> None:
    model = without_data("resnet18", 10, (3, 32, 32))
    usage = training_memory(model, (3, 32, 32), 5, EIGHT, "paper")
    images = torch.empty(5, 3, 32, 32)
    assert training_memory(model, precision=EIGHT, accounting="paper", inputs=images) == usage
    for inputs, came in [(torch.empty(3, 32, 32), r"shape \(3, 32, 32\)"), ([images], "list")]:
        with pytest.raises(ValueError, match=f"takes one batch of images, .* got .*{came}"):
            training_memory(model, precision=EIGHT, accounting="paper", inputs=inputs)


def test_complex_and_integer_weights() -> None:
    """A complex number is two; integers are there, and not trained."""
    model = nn.Module()
    model.register_parameter("weight", nn.Parameter(torch.rand(6, dtype=torch.complex64)))
    codes = nn.Parameter(torch.ones(5, dtype=torch.int8), requires_grad=False)
    model.register_parameter("codes", codes)
    model.forward = lambda x: x * model.weight
    usage = training_memory(model, inputs=torch.rand(3, 6, dtype=torch.complex64), precision=EIGHT)
    assert usage == MemoryUsage(2 * 6 + 5, 2 * 3 * 6, 2 * 3 * 2 * 6)


def assigned(demotion: float, promotion: float | None = None) -> Recipe:
    formats = "1-4-3b4", "1-6-9", "1-6-9", "1-5-2"
    return Recipe.assigned(*formats, demotion=demotion, promotion=promotion)


TWO_LAYERS = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


@pytest.mark.parametrize(("demotion", "expected"), [(0.0, 648), (0.5, 490), (1.0, 367)])
def test_the_memory_of_assignments_by_hand(demotion: float, expected: int) -> None:
    usage = training_memory(TWO_LAYERS, (4,), 7, assigned(demotion), "assignment")
    assert usage.total == expected


def test_saved_tensors_of_demoted_groups_by_hand() -> None:
    usage = training_memory(TWO_LAYERS, (4,), 7, assigned(0.5))
    assert usage.activations == -(-(28 * 16 + 35 * 8) // 8)
    assert usage.weights == (25 * 16 + 18 * 8) // 8
    assert usage.optimizer == 43 * 3 * 2


def test_promotion_has_an_upper_bound() -> None:
    usage = training_memory(TWO_LAYERS, (4,), 7, assigned(0.5, promotion=0.01))
    assert usage.total == training_memory(TWO_LAYERS, (4,), 7, assigned(0.5)).total
    assert usage.upper_bound == training_memory(TWO_LAYERS, (4,), 7, assigned(0.0)).total
    fixed = training_memory(TWO_LAYERS, (4,), 7, assigned(0.5))
    assert fixed.upper_bound == fixed.total


@pytest.mark.parametrize("name", ["plain3", "resnet20", "vgg11"])
def test_both_ends_of_demotion_are_trainings_with_one_format(name: Network) -> None:
    model, shape = build_model(name, 5, (3, 32, 32)), (3, 32, 32)
    for demotion, fmt in ((0.0, "1-6-9"), (1.0, "1-4-3")):
        mixed = training_memory(model, shape, 4, assigned(demotion)).total
        assert mixed == training_memory(model, shape, 4, Precision.parse(fmt, "1-6-9")).total


def test_saved_tensors_by_group() -> None:
    # plain3 on 32 images of 16 pixels: the figures of the specification.
    counts = count(build_model("plain3", 5, (3, 16, 16)), (3, 16, 16), 32)
    assert counts.groups is not None
    found = counts.groups()
    of = [0] * 5
    for numbers in counts.activations:
        of[found.sites[found.calls[numbers.call]].group] += numbers.size
    assert of == [24576, 262272, 131328, 74240, 0]


def test_the_papers_accounting_knows_no_groups() -> None:
    with pytest.raises(ValueError, match="'paper' knows no groups"):
        training_memory(
            build_model("resnet18", 5, (3, 32, 32)), (3, 32, 32), 4, assigned(1), "paper"
        )
