"""Figure 10: frontiers on CIFAR-10 from samples of 5% and of 20% of the error matrix.

The paper shows one random draw. Here are the first of many, and the distribution over all.
"""

from __future__ import annotations

from collections.abc import Sequence

import authors
import matplotlib.pyplot as plt
import numpy as np
from anchors import Anchor, one_draw
from common import BLUE, GREY, MIB, ORANGE, WIDTH, Script, is_authors, start
from matplotlib.axes import Axes
from meta_training import CONVENTIONS, METRICS, Sampled, sampled
from numpy.typing import NDArray

from optuna_peppp import pareto

PAPER = {0.05: {"convergence": "0.09", "hyperdiff": "0.16"}}
PAPER |= {0.2: {"convergence": "0.03", "hyperdiff": "0.02"}}
COLORS = {0.05: ORANGE, 0.2: BLUE}
SAMPLES = 200
QUICK_SAMPLES = 10


def main(argv: Sequence[str] | None = None) -> None:
    """Table, picture, anchors."""
    script = start(__file__, __doc__, argv)
    corpus, row = script.corpus, script.example
    chances = {ratio: np.full(corpus.errors.shape, ratio) for ratio in PAPER}
    samples = QUICK_SAMPLES if script.quick else SAMPLES
    found = sampled(corpus, chances, example=row, samples=samples)

    script.write_table(
        [
            {"ratio": of_ratio.name, "sample": seed, "convention": convention}
            | dict(zip(METRICS, values.tolist(), strict=True))
            for of_ratio in found
            for seed, of_sample in enumerate(of_ratio.example)
            for convention, values in zip(CONVENTIONS, of_sample, strict=True)
        ]
    )
    figure, grid = plt.subplots(3, 2, figsize=(WIDTH, 7.2))
    for ax, (ratio, chance) in zip(grid[0], chances.items(), strict=True):
        draw_frontiers(ax, script, authors.complete(corpus.errors, authors.draw(chance, 0))[row])
        ax.set_title(f"{corpus.tasks[row]}, one sample of {ratio:.0%}")
    grid[0, 0].legend()
    for i, axes in enumerate(grid[1:]):
        for ax, metric in zip(axes, ("convergence", "hyperdiff"), strict=True):
            draw_samples(ax, found, i, metric, with_paper=is_authors(corpus))
            ax.set(xlabel=f"{METRICS[metric]}, {CONVENTIONS[i]}", ylabel=f"samples, of {samples}")
    grid[1, 0].legend()
    script.write_picture(figure)
    script.finish(anchors(found) if is_authors(corpus) else [], samples=samples)


def draw_frontiers(ax: Axes, script: Script, predicted: NDArray[np.float64]) -> None:
    """True errors of one task, and its true and estimated frontiers."""
    memory, errors = (
        script.corpus.memory[script.example] / MIB,
        script.corpus.errors[script.example],
    )
    ax.scatter(memory, errors, s=8, color=GREY, label="true")
    for values, color, name in ((errors, BLUE, "true frontier"), (predicted, ORANGE, "estimated")):
        frontier = pareto.frontier(np.column_stack((memory, values)))
        ax.step(
            memory[frontier], values[frontier], where="post", color=color, marker=".", label=name
        )
    ax.set(xlabel="memory of the training (MiB)", ylabel="test error")


def draw_samples(
    ax: Axes, found: Sequence[Sampled], convention: int, metric: str, *, with_paper: bool
) -> None:
    """Histograms over samples, and the paper's numbers, which are of the authors' matrix."""
    column = list(METRICS).index(metric)
    largest = max(of_ratio.example[:, convention, column].max() for of_ratio in found)
    bins = np.linspace(0, largest, 30).tolist()
    for of_ratio in found:
        color = COLORS[of_ratio.name]
        values = of_ratio.example[:, convention, column]
        ax.hist(values, bins, color=color, alpha=0.6, label=f"{of_ratio.name:.0%}")
        if with_paper:
            ax.axvline(
                float(PAPER[of_ratio.name][metric]),
                color=color,
                linestyle="--",
                label=f"{of_ratio.name:.0%}, the paper's",
            )


def anchors(found: Sequence[Sampled]) -> list[Anchor]:
    """The numbers in the caption."""
    return [
        one_draw(
            f"CIFAR-10 from {of_ratio.name:.0%}, {METRICS[metric]}, {convention} (Figure 10)",
            paper,
            of_ratio.example[:, i, list(METRICS).index(metric)],
            "" if convention == "authors" else "memory scaled within the task: a longer frontier",
        )
        for of_ratio in found
        for i, convention in enumerate(CONVENTIONS)
        for metric, paper in PAPER[of_ratio.name].items()
    ]


if __name__ == "__main__":
    main()
