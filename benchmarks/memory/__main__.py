"""What a forward pass really holds for its backward pass, beside what was computed.

For every network and recipe: the bytes of all storages that the forward pass made and that live at
its end, as every operation of PyTorch is watched, and the most that lived at any time of the step;
once with tensors in float32, as simulated, and once packed (packed_saved_tensors), and the
gradients of both compared bit for bit. Beside them plain float32 and autocast in bfloat16.
Computed are activations and weights of training_memory, whose place the live ones take; weights,
states and gradients in float32 are there in any case, and not counted. Seconds are those of a step
that nobody watches, without an update. On CUDA, live and most are what PyTorch's allocator tells,
and gradients are compared where two simulated passes have the same.

    python -m benchmarks.memory [--quick] [--device cpu|cuda] [--network NAME ...]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.harness import script
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, markdown
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.lowprecision import LowPrecisionModule, Quantizer, build_model, training_memory
from optuna_peppp.lowprecision.compatibility import (
    TorchDispatchMode,
    storage_key,
    storage_watch,
    tree_leaves,
)

SEED: Final = 0
CLASSES: Final = 10


@dataclass(frozen=True, slots=True)
class Network:
    """A network, and the batch that it trains on: images of a size, so many."""

    build: Callable[[], nn.Module]
    size: int
    batch: int


def _own(name: Any, size: int) -> Callable[[], nn.Module]:
    return lambda: build_model(name, CLASSES, (3, size, size))


NETWORKS: Final = {
    "plain3": Network(_own("plain3", 16), 16, 32),
    "resnet20": Network(_own("resnet20", 32), 32, 32),
    "resnet18": Network(_own("resnet18", 32), 32, 16),
    "vit": Network(_own("vit", 32), 32, 32),
    "resnet50, 224 px": Network(lambda: torchvision.models.resnet50(num_classes=CLASSES), 224, 8),
    "vgg16, 224 px": Network(lambda: torchvision.models.vgg16(num_classes=CLASSES), 224, 4),
}
QUICK: Final = ("plain3", "resnet20", "resnet18", "vit")

RECIPES: Final = {
    "1-3-1 / 1-6-7": Recipe.paper("1-3-1", "1-6-7"),
    "1-4-3 / 1-6-9, stochastic": Recipe.paper("1-4-3", "1-6-9", "stochastic"),
    "bfloat16": Recipe.named("bfloat16"),
    "fp8-hybrid": Recipe.named("fp8-hybrid"),
    "mxfp8": Recipe.named("mxfp8"),
    "nvfp4": Recipe.named("nvfp4"),
    "int4@256/minmax saved": Recipe.hardware("int4@256/minmax"),
}


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The storages that operations made and that live.

    Attributes:
        most: The most bytes that lived after an operation.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._living: dict[int, tuple[Callable[[], bool], int]] = {}
        self._known: set[int] = set()
        self.most = 0

    def know(self, *tensors: Tensor) -> None:
        """Does not count these."""
        self._known.update(map(storage_key, tensors))

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Calls an operation, and looks."""
        found = function(*args, **(kwargs or {}))
        for x in tree_leaves(found):
            if not isinstance(x, Tensor) or x.is_meta or storage_key(x) in self._known:
                continue
            self._living[storage_key(x)] = storage_watch(x), x.untyped_storage().nbytes()
        self.most = max(self.most, self.live)
        return found

    @property
    def live(self) -> int:
        """Bytes that live now."""
        self._living = {key: one for key, one in self._living.items() if not one[0]()}
        return sum(size for _, size in self._living.values())


@dataclass(frozen=True, slots=True)
class Step:
    """What one step held and found."""

    live: int
    most: int
    seconds: float
    gradients: list[Tensor]


def step(model: nn.Module, call: nn.Module, x: Tensor, around: AbstractContextManager[Any]) -> Step:
    """Forward pass, loss and backward pass, three times: to warm up, by the clock, watched."""
    labels = torch.arange(len(x), device=x.device) % CLASSES
    parameters = list(model.parameters())

    def loss() -> Tensor:
        with around:
            output = call(x)
        return cross_entropy(output.float(), labels)

    def passes() -> list[Tensor]:
        torch.manual_seed(SEED)
        return list(torch.autograd.grad(loss(), parameters, allow_unused=True))

    passes()
    synchronize(x.device)
    begin = time.perf_counter()
    passes()
    synchronize(x.device)
    seconds = time.perf_counter() - begin
    torch.manual_seed(SEED)
    if x.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        value = loss()
        live = torch.cuda.memory_allocated() - before
        gradients = list(torch.autograd.grad(value, parameters, allow_unused=True))
        most = torch.cuda.max_memory_allocated() - before
    else:
        with Watch() as watch:
            watch.know(x, labels, *parameters, *model.buffers())
            value = loss()
            live = watch.live
            gradients = list(torch.autograd.grad(value, parameters, allow_unused=True))
            most = watch.most
    return Step(live, most, seconds, [g for g in gradients if g is not None])


def synchronize(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def built(network: Network, device: torch.device) -> tuple[nn.Module, Tensor]:
    """The network with weights that are always the same, and its batch."""
    torch.manual_seed(SEED)
    model = network.build().to(device).train()
    shape = network.batch, 3, network.size, network.size
    return model, torch.randn(shape).to(device)


def measure(name: str, device: torch.device) -> list[Row]:
    """A row a recipe and method."""
    network, rows = NETWORKS[name], list[Row]()

    def row(recipe: str, method: str, found: Step, computed: int = 0, exact: str = "") -> None:
        rows.append(
            {
                "device": device.type,
                "network": name,
                "batch": network.batch,
                "recipe": recipe,
                "method": method,
                "computed_bytes": computed or "",
                "live_bytes": found.live,
                "most_bytes": found.most,
                "live_over_computed": found.live / computed if computed else "",
                "seconds": found.seconds,
                "bit_exact": exact,
            }
        )

    model, x = built(network, device)
    row("float32", "plain", step(model, model, x, nullcontext()))
    autocast = torch.autocast(device.type, torch.bfloat16)
    row("bfloat16", "autocast", step(model, model, x, autocast))
    for recipe_name, recipe in RECIPES.items():
        found = {}
        for packed in (False, True):
            model, x = built(network, device)
            call = LowPrecisionModule(model, Quantizer(recipe), packed=packed)
            found[packed] = step(model, call, x, nullcontext())
        usage = training_memory(model, tuple(x.shape[1:]), network.batch, recipe)
        computed = usage.activations + usage.weights
        exact = str(equal(found[False], found[True]))
        if device.type == "cuda" and exact == "False":
            model, x = built(network, device)
            call = LowPrecisionModule(model, Quantizer(recipe))
            if not equal(found[False], step(model, call, x, nullcontext())):
                exact = "no two passes are equal"
        row(recipe_name, "simulated", found[False], computed)
        row(recipe_name, "packed", found[True], computed, exact)
    return rows


def equal(one: Step, other: Step) -> bool:
    """Whether two steps found the same gradients, bit for bit."""
    return all(map(torch.equal, one.gradients, other.gradients))


def table(rows: Sequence[Row]) -> str:
    """Bytes in Markdown."""
    header = ("network", "recipe", "method", "computed, MB", "live, MB", "most, MB", "s a step")
    lines = [[*header, "live / computed"]]
    for row in rows:
        names = [str(row[name]) for name in ("network", "recipe", "method")]
        sizes = [row["computed_bytes"], row["live_bytes"], row["most_bytes"]]
        share = row["live_over_computed"]
        lines.append(
            [
                *names,
                *(f"{float(size) / 1e6:.2f}" if size else "" for size in sizes),
                f"{row['seconds']:.3f}",
                f"{share:.3f}" if share else "",
            ]
        )
    return markdown(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes, prints."""
    parser = script.parser(__doc__, "small networks")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS))
    options = parser.parse_args(argv)
    stem = "memory" if options.device == "cpu" else f"memory_{options.device}"
    results, rows = Results(script.folder(options), stem), list[Row]()
    for name in options.network or (QUICK if options.quick else NETWORKS):
        rows += measure(name, torch.device(options.device))
        results.table(rows)
        print(table([row for row in rows if row["network"] == name]), flush=True)
    gpu = {"gpu": torch.cuda.get_device_name()} if options.device == "cuda" else {}
    results.record({"seed": SEED, **gpu})
    packed = [row for row in rows if row["method"] == "packed"]
    worst = max(packed, key=lambda row: abs(float(row["live_over_computed"]) - 1))
    packed = [row for row in packed if row["bit_exact"] in ("True", "False")]
    exact = sum(row["bit_exact"] == "True" for row in packed)
    print(f"worst measured/computed: {worst['live_over_computed']:.3f}")
    print(f"bit-exact: {exact} of {len(packed)}")


if __name__ == "__main__":
    main()
