"""What rounding the results of functions between modules costs, beside module boundaries alone.

A step is forward pass, backward pass and update with SGD: resnet20 on 32 images of 16 pixels, whose
residual sums are functions, and a text classifier of two encoder layers (width 64, four heads) on
32 sequences of 32 tokens, whose attention, residual sums and ReLU are. Both round stochastically
in 1-4-3 / 1-6-9, at modules and at operators, eagerly and compiled, and take turns in one process,
in a new order each time: medians over turns, of the time and of its ratio in the same turn. Before,
the first compiled step is checked to find the loss that an eager one finds.

    python -m benchmarks.speed.operators [--quick]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from benchmarks.harness import script
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, markdown
from benchmarks.harness.turns import process, ratio, take_turns
from optuna_peppp.configurations.names import SITES, Backend, Sites
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.lowprecision import build_model
from optuna_peppp.lowprecision.training.own_loop import training_step
from optuna_peppp.lowprecision.training.step import TrainingStep

SEED: Final = 0
TURN: Final = 0.2
"""Seconds that a turn lasts, or one step if that is longer."""

TURNS, QUICK_TURNS = 15, 3
NETWORKS: Final = ("resnet20", "transformer")
TOLERANCE: Final = 0.02
"""Between the losses of an eager step and a compiled one at equal weights, relative: sums in
another order let single roundings fall to the other side."""

Name = tuple[Backend, Sites]


class Text(nn.Module):
    """A classifier of sequences of tokens."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.1, batch_first=True)
        self.embedding = nn.Embedding(256, 64)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (batch, 5) of tokens (batch, length)."""
        pooled = self.encoder(self.embedding(tokens)).mean(1)
        return cast(Tensor, self.head(pooled))


def training(network: str, name: Name) -> tuple[TrainingStep, Tensor, Tensor]:
    """A step, and the batch that it is taken on."""
    backend, sites = name
    torch.manual_seed(SEED)
    labels = torch.randint(5, (32,))
    if network == "resnet20":
        model, x = build_model("resnet20", 5, (3, 16, 16)), torch.randn(32, 3, 16, 16)
    else:
        model, x = Text(), torch.randint(256, (32, 32))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    recipe = replace(Recipe.paper("1-4-3", "1-6-9", "stochastic"), sites=sites)
    step = training_step(model, optimizer, F.cross_entropy, recipe, seed=SEED, backend=backend)
    return step, x, labels


def seconds(take: Callable[[], object], steps: int) -> float:
    """Time of a step."""
    begin = time.perf_counter()
    for _ in range(steps):
        take()
    return (time.perf_counter() - begin) / steps


def measure(network: str, quick: bool) -> list[Row]:
    """A row a backend and kind of site; for a process of its own."""
    names: list[Name] = list(product(("eager", "compiled"), SITES))
    losses: dict[Name, float] = {}
    compiling: dict[Name, float] = {}
    calls: dict[Name, Callable[[], float]] = {}
    for name in names:
        step, *batch = training(network, name)
        begin = time.perf_counter()
        losses[name] = [float(step(*batch)) for _ in range(3)][1]
        compiling[name] = time.perf_counter() - begin
        once = seconds(partial(step, *batch), 1)
        calls[name] = partial(seconds, partial(step, *batch), max(1, round(TURN / once)))
    for sites in SITES:
        eager, compiled = losses["eager", sites], losses["compiled", sites]
        if abs(compiled - eager) > TOLERANCE * eager:
            raise RuntimeError(f"{network}, {sites}: loss {compiled} compiled, {eager} eagerly")
    times = take_turns(calls, QUICK_TURNS if quick else TURNS, seed=SEED)
    return [
        {
            "network": network,
            "threads": torch.get_num_threads(),
            "backend": backend,
            "sites": sites,
            "turns": len(own),
            "milliseconds": 1e3 * median(own),
            "ratio_to_modules": ratio(own, times[backend, "modules"]),
            "first_three_steps_seconds": compiling[backend, sites],
            "loss": losses[backend, sites],
        }
        for (backend, sites), own in times.items()
    ]


def table(rows: Sequence[Row]) -> str:
    """The steps in Markdown."""
    lines = [["network", "step", "sites", "ms", "times modules", "first three steps, s"]]
    for row in rows:
        names = (str(row[name]) for name in ("network", "backend", "sites"))
        times = (f"{row['milliseconds']:.1f}", f"{row['ratio_to_modules']:.2f}")
        lines.append([*names, *times, f"{row['first_three_steps_seconds']:.0f}"])
    return markdown(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes, prints."""
    options = script.parser(__doc__, "the transformer, few turns").parse_args(argv)
    results = Results(script.folder(options, "speed"), "operators")
    rows: list[Row] = []
    for network in NETWORKS[1:] if options.quick else NETWORKS:
        with TemporaryDirectory() as folder, process(1, f"{folder}/{network}") as pool:
            rows += pool.apply(measure, (network, options.quick))
        results.table(rows)
    results.record({"seed": SEED})
    print(table(rows))


if __name__ == "__main__":
    main()
