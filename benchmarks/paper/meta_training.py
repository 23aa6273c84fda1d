"""Frontiers from a sample of the error matrix: Figures 9, 10, 17, 22 and 23.

Violins: all tasks, from one sample. Error bars: CIFAR-10, over samples. Figures 22 and 23 are as 9
and 17 on the learning-rate-tuned matrix, whose rows are pairs of a task and a learning rate (Table
5), the first of them aquatic mammals at 0.01. All of these have the same memory, so that in Figure
23 the configurations of the most are hardly ever drawn, and completed as if they had no error: the
relative error stays above that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from benchmarks.harness.looks import BLUE, GREY, ORANGE, WIDTH
from benchmarks.paper import authors, learning_rates
from benchmarks.paper.anchors import Anchor, claim, one_draw
from benchmarks.paper.sampling import (
    AUTHORS,
    CONVENTIONS,
    METRICS,
    Sampled,
    draw,
    medians,
    sampled,
    summaries,
)
from benchmarks.paper.script import MIB, Script
from optuna_peppp import ErrorMatrix, pareto

RATIOS: Final = tuple(round(ratio, 2) for ratio in np.arange(0.05, 0.51, 0.05))
QUICK_RATIOS: Final = (0.05, 0.2, 0.5)
LARGEST: Final = tuple(round(largest, 1) for largest in np.arange(0.1, 1.01, 0.1))
QUICK_LARGEST: Final = (0.1, 0.4, 1.0)
PAPER: Final = {
    0.05: {"convergence": "0.09", "hyperdiff": "0.16"},
    0.2: {"convergence": "0.03", "hyperdiff": "0.02"},
}
COLORS: Final = {0.05: ORANGE, 0.2: BLUE}


def figure_09(script: Script) -> list[Anchor]:
    """From a uniform sample, by sampling ratio."""
    return _uniform(script, script.corpus, script.example, "Figure 9", script.authors)


def figure_22(script: Script) -> list[Anchor]:
    """As Figure 9, learning rates tuned."""
    corpus = learning_rates.complete(script.tuned)
    return _uniform(script, corpus, 0, "Figure 22", learning_rates.is_authors(script.tuned))


def figure_17(script: Script) -> list[Anchor]:
    """From a sample that prefers small memory, by the largest probability p_max.

    Completed by weighted SoftImpute as in the paper, and, as a line, without weights.
    """
    return _by_memory(script, script.corpus, script.example, "Figure 17", script.authors)


def figure_23(script: Script) -> list[Anchor]:
    """As Figure 17, learning rates tuned."""
    corpus = learning_rates.complete(script.tuned)
    return _by_memory(script, corpus, 0, "Figure 23", learning_rates.is_authors(script.tuned))


def _uniform(
    script: Script, corpus: ErrorMatrix, example: int, figure: str, theirs: bool
) -> list[Anchor]:
    ratios, samples = (QUICK_RATIOS, 5) if script.quick else (RATIOS, 100)
    chances = {ratio: np.full(corpus.errors.shape, ratio) for ratio in ratios}
    found = sampled(corpus, chances, example=example, samples=samples)
    script.results.table(summaries(found))
    script.results.picture(draw(found, "sampled (% of memory)", corpus.tasks[example]))
    return script.finish(_on_ratios(found, figure) if theirs else [], samples=samples)


def _on_ratios(found: Sequence[Sampled], figure: str) -> list[Anchor]:
    ratios = [sample.name for sample in found]
    least, fifth, most = (ratios.index(ratio) for ratio in QUICK_RATIOS)
    anchors = []
    for convention in CONVENTIONS:
        middle = {name: medians(found, convention, metric) for metric, name in METRICS.items()}
        said = "; ".join(
            f"{name} {values[least]:.3f}, {values[fifth]:.3f}, {values[most]:.3f}"
            for name, values in middle.items()
        )
        way = [(v[least] - v[fifth]) / (v[least] - v[most]) for v in middle.values()]
        anchors += [
            claim(
                f"estimates at larger sampling ratios, {convention} ({figure})",
                "more accurate",
                said,
                all(v[most] < v[fifth] < v[least] for v in middle.values()),
                "medians over tasks at 5%, 20% and 50%" + "; beyond 20% what rank and shrinkage "
                "leave over stays, as drawn errors are predicted too" * (convention == AUTHORS),
            ),
            claim(
                f"20% of the entries, {convention} ({figure})",
                "already suffice",
                f"{min(way):.0%} to {max(way):.0%} of the way from 5% to 50%",
                min(way) > 0.8,
                "suffice read as more than 80% of the way in every metric's median",
            ),
        ]
    return anchors


def _by_memory(
    script: Script, corpus: ErrorMatrix, example: int, figure: str, theirs: bool
) -> list[Anchor]:
    most, samples = (QUICK_LARGEST, 2) if script.quick else (LARGEST, 20)
    chances = {largest: authors.memory_chances(corpus.memory, largest) for largest in most}
    weighted, plain = (
        sampled(corpus, chances, example=example, samples=samples, weighted=weights)
        for weights in (True, False)
    )
    script.results.table([*summaries(weighted, weighted=True), *summaries(plain, weighted=False)])
    picture = draw(weighted, "sampled (% of memory)", corpus.tasks[example], plain)
    script.results.picture(picture)
    return script.finish(_on_weights(weighted, plain, figure) if theirs else [], samples=samples)


def _on_weights(weighted: Sequence[Sampled], plain: Sequence[Sampled], figure: str) -> list[Anchor]:
    found = []
    for convention in CONVENTIONS:
        own = {name: medians(weighted, convention, metric) for metric, name in METRICS.items()}
        other = {name: medians(plain, convention, metric) for metric, name in METRICS.items()}
        gains = [own[name] < other[name] for name in own]
        found.append(
            claim(
                f"non-uniform sampling with more memory, {convention} ({figure})",
                "improves",
                _first_to_last(own),
                all(middle[-1] < middle[0] for middle in own.values()),
                f"medians over tasks, p_max 0.1 to 1; without weights {_first_to_last(other)}: "
                f"weights lower {np.sum(gains)} of {np.size(gains)} medians",
            )
        )
    return found


def _first_to_last(values: dict[str, NDArray[np.float64]]) -> str:
    return "; ".join(f"{name} {v[0]:.3f} to {v[-1]:.3f}" for name, v in values.items())


def figure_10(script: Script) -> list[Anchor]:
    """On CIFAR-10 from samples of 5% and of 20%.

    The paper shows one random draw. Here are the first of many, and the distribution over all.
    """
    corpus, row = script.corpus, script.example
    chances = {ratio: np.full(corpus.errors.shape, ratio) for ratio in PAPER}
    samples = 10 if script.quick else 200
    found = sampled(corpus, chances, example=row, samples=samples)
    script.results.table(
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
        completed = authors.complete(corpus.errors, authors.draw(chance, 0))[row]
        _draw_frontiers(ax, corpus.memory[row] / MIB, corpus.errors[row], completed)
        ax.set_title(f"{corpus.tasks[row]}, one sample of {ratio:.0%}")
    grid[0, 0].legend()
    for i, axes in enumerate(grid[1:]):
        for ax, metric in zip(axes, ("convergence", "hyperdiff"), strict=True):
            _draw_samples(ax, found, i, metric, with_paper=script.authors)
            ax.set(xlabel=f"{METRICS[metric]}, {CONVENTIONS[i]}", ylabel=f"samples, of {samples}")
    grid[1, 0].legend()
    script.results.picture(figure)
    return script.finish(_on_draws(found) if script.authors else [], samples=samples)


def _draw_frontiers(
    ax: Axes,
    memory: NDArray[np.float64],
    errors: NDArray[np.float64],
    predicted: NDArray[np.float64],
) -> None:
    ax.scatter(memory, errors, s=8, color=GREY, label="true")
    for values, color, name in ((errors, BLUE, "true frontier"), (predicted, ORANGE, "estimated")):
        best = pareto.frontier(np.column_stack((memory, values)))
        ax.step(memory[best], values[best], where="post", color=color, marker=".", label=name)
    ax.set(xlabel="memory of the training (MiB)", ylabel="test error")


def _draw_samples(
    ax: Axes, found: Sequence[Sampled], convention: int, metric: str, *, with_paper: bool
) -> None:
    """Histograms over samples, and the paper's numbers, which are of the authors' matrix."""
    column = list(METRICS).index(metric)
    largest = max(of_ratio.example[:, convention, column].max() for of_ratio in found)
    bins = np.linspace(0, largest, 30).tolist()
    for of_ratio in found:
        color, name = COLORS[of_ratio.name], f"{of_ratio.name:.0%}"
        ax.hist(of_ratio.example[:, convention, column], bins, color=color, alpha=0.6, label=name)
        if with_paper:
            printed = float(PAPER[of_ratio.name][metric])
            ax.axvline(printed, color=color, linestyle="--", label=f"{name}, the paper's")


def _on_draws(found: Sequence[Sampled]) -> list[Anchor]:
    return [
        one_draw(
            f"CIFAR-10 from {of_ratio.name:.0%}, {METRICS[metric]}, {convention} (Figure 10)",
            paper,
            of_ratio.example[:, i, list(METRICS).index(metric)],
            "" if convention == AUTHORS else "memory scaled within the task: a longer frontier",
        )
        for of_ratio in found
        for i, convention in enumerate(CONVENTIONS)
        for metric, paper in PAPER[of_ratio.name].items()
    ]
