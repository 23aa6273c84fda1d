"""The training steps that are compared, and whether they train alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.speed.qpytorch_step import QPyTorchStep
from optuna_peppp.configurations.names import Network
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.lowprecision import (
    ImageData,
    LowPrecisionModule,
    LowPrecisionOptimizer,
    Quantizer,
    RoundingScheme,
    build_model,
)
from optuna_peppp.lowprecision.rounding.quantize import ROUNDINGS, Rounding
from optuna_peppp.lowprecision.simulation.tf32 import convolutions_fit_tf32, convolutions_in_tf32
from optuna_peppp.lowprecision.training.batches import Batches
from optuna_peppp.lowprecision.training.step import TrainingStep

NETWORKS: Final[dict[Network, int]] = {"plain3": 16, "resnet18": 32, "vgg11": 32}
"""The networks, and the height and width of their images."""

BATCH, CLASSES, SEED = 32, 5, 0
# Powers of two: torch updates with a single rounding of product and sum.
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 2.0**-10, 0.9, 2.0**-11
PRECISION: Final = Precision.parse("1-4-3", "1-6-9")
PRECISIONS: Final = (PRECISION, Precision.parse("1-3-1", "1-8-11"))
LOSS_SCALE: Final = 1024.0
"""A power of two: QPyTorch multiplies by its inverse, where ours divides."""

Name = tuple[str, Rounding | None]
"""A method and how it rounds; a recipe says that itself, and in float32 nothing is rounded."""

LOOP: Final[Name] = ("PyTorch loop", None)
EAGER: Final[Name] = ("float32 eager", None)
COMPILED: Final[Name] = ("float32 compiled", None)
OURS: Final[tuple[Name, ...]] = tuple(("compiled", rounding) for rounding in ROUNDINGS)
REFERENCE: Final[tuple[Name, ...]] = tuple(("eager", rounding) for rounding in ROUNDINGS)
QPYTORCH: Final[tuple[Name, ...]] = tuple(("QPyTorch", rounding) for rounding in ROUNDINGS)
RECIPES: Final = {
    "mxfp8": Recipe.named("mxfp8"),
    "nvfp4": Recipe.named("nvfp4"),
    "dynamic8": Recipe.hardware(states="dynamic8@256"),
}
"""Recipes by the name that a step has; the last has optimizer states of 8 bits."""

HARDWARE: Final[tuple[Name, ...]] = tuple((f"{name} compiled", None) for name in RECIPES)
EAGER_HARDWARE: Final[tuple[Name, ...]] = tuple((f"{name} eager", None) for name in RECIPES)
NAMES: Final = (LOOP, EAGER, COMPILED, *HARDWARE, *OURS, *REFERENCE, *QPYTORCH)

STEPS: Final = {"plain3": 20, "resnet18": 3, "vgg11": 3}
"""Before the weights are compared: fewer where a step takes seconds."""

BOUND: Final = 0.05
"""Distance of weights that were trained alike, in how far they have moved."""


def noise(train: int, size: int, test: int = CLASSES) -> ImageData:
    """Random images with random labels."""
    generator = torch.Generator().manual_seed(SEED)

    def part(count: int) -> tuple[Tensor, Tensor]:
        shape = (count, 3, size, size)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return images, torch.randint(CLASSES, (count,), generator=generator)

    return ImageData("noise", *part(train), *part(test), CLASSES)


def build(network: Network) -> nn.Module:
    """A network with initial weights that are always the same."""
    with torch.random.fork_rng([]):
        torch.manual_seed(SEED)
        return build_model(network, CLASSES, (3, NETWORKS[network], NETWORKS[network]))


@dataclass(frozen=True, slots=True, eq=False)
class Contestant:
    """A network in training on one batch, and the weights that its optimizer updates.

    ``tf32``: whether convolutions may be in TF32, where the device has it.
    """

    step: Callable[[Tensor, Tensor], object]
    updated: Callable[[], Sequence[Tensor]]
    tf32: bool
    images: Tensor
    labels: Tensor

    def train(self, steps: int = 1) -> None:
        """Trains some steps."""
        with convolutions_in_tf32(self.tf32):
            for _ in range(steps):
                self.step(self.images, self.labels)

    def weights(self) -> Tensor:
        """All weights, float64, shape (parameters,)."""
        return torch.cat([w.detach().flatten().cpu().double() for w in self.updated()])


def contestant(
    network: Network,
    name: Name,
    device: torch.device,
    precision: Precision = PRECISION,
    seed: int = SEED,
) -> Contestant:
    """A training that has not begun; the seed is our stochastic rounding's, QPyTorch's has none."""
    (method, rounding), data = name, noise(BATCH, NETWORKS[network])
    model, batches = build(network).to(device).train(), Batches(data, device)
    sgd = torch.optim.SGD(
        model.parameters(), LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    scheme = RoundingScheme(rounding=rounding or "nearest", loss_scale=LOSS_SCALE)
    chosen: Precision | Recipe | None = RECIPES.get(method.split()[0])
    if rounding is not None:
        chosen = precision
    elif chosen is None:
        scheme = RoundingScheme(loss_scale=1.0)
    tf32 = device.type == "cuda" and convolutions_fit_tf32(model, chosen, scheme, batches.sample())
    parameters = list(model.parameters())
    updated: Callable[[], Sequence[Tensor]] = parameters.copy
    step: Callable[[Tensor, Tensor], object]
    if name == LOOP:
        step = _loop(model, sgd, batches)
    elif method == "QPyTorch":
        step = rival = QPyTorchStep(
            model, sgd, batches, precision, scheme.rounding, scheme.loss_scale
        )
        updated = rival.accumulators
    else:
        quantizer = Quantizer(
            chosen,
            scheme,
            torch.Generator(device).manual_seed(seed),
            "compiled" if method.endswith("compiled") else "eager",
        )
        module = model if chosen is None else LowPrecisionModule(model, quantizer)
        update = LowPrecisionOptimizer(sgd, quantizer)
        step = TrainingStep(module, update, batches.loss, quantizer)
    images, labels = data.train_images.to(device), data.train_labels.to(device)
    return Contestant(step, updated, tf32, images, labels)


def _loop(
    model: nn.Module, optimizer: torch.optim.SGD, batches: Batches
) -> Callable[[Tensor, Tensor], object]:
    """As everybody writes it."""

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        cross_entropy(model(batches.standardized(images)), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


@contextmanager
def other_convolutions(device: torch.device) -> Iterator[None]:
    """Convolves by another algorithm in this block, which sums the same products otherwise."""
    library: Any = torch.backends.mkldnn if device.type == "cpu" else torch.backends.cudnn
    before = library.enabled
    library.enabled = False
    try:
        yield
    finally:
        library.enabled = before


def check(
    network: Network, device: torch.device, names: Sequence[Name] = NAMES
) -> dict[str, float]:
    """Trains everybody on the same batch from the same weights, and compares.

    On the CPU our step in float32 must be the plain loop's, and our eager step QPyTorch's to
    nearest in two precisions, bit for bit. A compiler sums in another order: now and then a number
    is rounded to the other side, and what follows from that grows with depth. What is compiled
    must be within ``BOUND`` of what is eager, or as near as eager is to itself with other
    convolutions where that is further; on CUDA, where no order is fixed, the same is asked of the
    two above. QPyTorch draws other numbers where rounding is stochastic: there one and a half of
    what another seed makes is near enough.

    Returns:
        How far the weights have moved, in their norm, and the distances between those that need
        not be equal, in how far the weights have moved.

    Raises:
        RuntimeError: Two that should train alike do not.
    """
    start, steps = contestant(network, EAGER, device).weights(), STEPS[network]

    def trained(name: Name, precision: Precision = PRECISION, seed: int = SEED) -> Tensor:
        entrant = contestant(network, name, device, precision, seed)
        entrant.train(steps)
        return entrant.weights()

    def distance(one: Tensor, other: Tensor) -> float:
        return float((one - other).norm() / (other - start).norm())

    def require(one: Tensor, other: Tensor, bound: float, what: str) -> float:
        found = distance(one, other)
        if not found <= bound:
            raise RuntimeError(
                f"{what} of {network} differ in {int((one != other).sum())} of {one.numel()} "
                f"weights, by {found:.2g} of how far they moved in {steps} steps; the bound is "
                f"{bound:.2g}"
            )
        return found

    references = (EAGER, *REFERENCE, *EAGER_HARDWARE)
    float32, nearest, stochastic, *_ = eager = [trained(name) for name in references]
    with other_convolutions(device):
        orders = [distance(trained(name), own) for name, own in zip(references, eager, strict=True)]
    seeds = distance(trained(REFERENCE[1], seed=SEED + 1), stochastic)
    near = [max(BOUND, order) for order in orders]
    exact = [0.0, 0.0] if device.type == "cpu" else near
    require(trained(LOOP), float32, exact[0], "the plain loop and ours in float32")
    found = {"moved": float((stochastic - start).norm() / start.norm()), "two seeds": seeds}
    kinds = {"float32": "in float32", "nearest": "to nearest", "stochastic": "stochastically"}
    kinds |= {recipe: f"in {recipe}" for recipe in RECIPES}
    found |= {f"other convolutions {kind}": far for kind, far in zip(kinds, orders, strict=True)}
    ours = COMPILED, *OURS, *HARDWARE
    for kind, name, own, bound in zip(kinds, ours, eager, near, strict=True):
        what = f"compiled and eager {kinds[kind]}"
        found[f"compiled {kind}"] = require(trained(name), own, bound, what)
    if QPYTORCH[0] in names:
        for precision in PRECISIONS:
            own = nearest if precision == PRECISION else trained(REFERENCE[0], precision)
            theirs = trained(QPYTORCH[0], precision)
            require(theirs, own, exact[1], f"QPyTorch and ours to nearest {precision}")
        theirs, what = trained(QPYTORCH[1]), "QPyTorch and ours stochastically"
        found["QPyTorch stochastic"] = require(theirs, stochastic, 1.5 * seeds, what)
    return found
