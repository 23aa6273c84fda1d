"""Meta-training from a sample of the entries, for Figures 9, 10, 17, 22 and 23.

A share of the matrix is drawn and completed as the authors did (authors.py), and the completion
is judged as they did, and by the plain definitions of :mod:`optuna_peppp.evaluation.leave_one_out`,
in which errors that were drawn are known and stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.harness import looks
from benchmarks.harness.looks import BLUE, ORANGE, RED, WIDTH
from benchmarks.paper import authors
from optuna_peppp import ErrorMatrix
from optuna_peppp.evaluation.quality import Quality

AUTHORS: Final = "authors"
CONVENTIONS: Final = (AUTHORS, "plain")
METRICS: Final[Mapping[str, str]] = {
    "relative_error": "relative error",
    "convergence": "convergence",
    "hyperdiff": "HyperDiff",
}
Qualities = NDArray[np.float64]
"""Shape (tasks, conventions, metrics)."""


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """What one sampling probability, a ratio or p_max, gives.

    ``tasks`` (n, 2, 3) and the memory, by that of the matrix, are of the first sample; ``example``
    (samples, 2, 3) is of one task.
    """

    name: float
    relative_memory: float
    tasks: Qualities
    example: Qualities


def sampled(
    corpus: ErrorMatrix,
    chances: Mapping[float, NDArray[np.float64]],
    *,
    example: int,
    samples: int,
    weighted: bool = False,
) -> list[Sampled]:
    """Completions of samples, seeds 0 to ``samples`` - 1, drawn with every matrix of chances."""
    found = []
    for name, chance in chances.items():
        of_example = []
        for seed in range(samples):
            drawn = authors.draw(chance, seed)
            completed = authors.complete(corpus.errors, drawn, chance if weighted else None)
            of_example.append(qualities(corpus, completed, drawn, [example])[0])
            if seed == 0:
                tasks = qualities(corpus, completed, drawn, range(len(corpus.tasks)))
                memory = float(corpus.memory[drawn].sum() / corpus.memory.sum())
        found.append(Sampled(name, memory, tasks, np.array(of_example)))
    return found


def qualities(
    corpus: ErrorMatrix,
    completed: NDArray[np.float64],
    drawn: NDArray[np.bool_],
    rows: Iterable[int],
) -> Qualities:
    """How close a completion (n, d) comes to the truth."""
    found = []
    for row in rows:
        memory, errors = corpus.memory[row], corpus.errors[row]
        kept = np.where(drawn[row], errors, completed[row])
        theirs = authors.qualities(memory, errors, completed[row], corpus.memory.max())
        plain = Quality.of(memory, errors, kept, drawn[row])
        found.append([theirs, [getattr(plain, metric) for metric in METRICS]])
    return np.array(found)


def summaries(found: Sequence[Sampled], **columns: object) -> list[dict[str, object]]:
    """A row a sampling, convention and metric: quantiles over tasks, spread on the example."""
    rows = []
    for sample in found:
        for i, convention in enumerate(CONVENTIONS):
            for j, metric in enumerate(METRICS):
                tasks, example = sample.tasks[:, i, j], sample.example[:, i, j]
                least, low, median, high, most = np.quantile(tasks, (0, 0.25, 0.5, 0.75, 1))
                rows.append(
                    {
                        **columns,
                        "sampling": sample.name,
                        "relative_memory": sample.relative_memory,
                        "convention": convention,
                        "metric": metric,
                        "least": least,
                        "first_quartile": low,
                        "median": median,
                        "third_quartile": high,
                        "most": most,
                        "example_mean": example.mean(),
                        "example_standard_deviation": example.std(),
                        "samples": len(example),
                    }
                )
    return rows


def medians(found: Sequence[Sampled], convention: str, metric: str) -> NDArray[np.float64]:
    """The median over tasks of every sampling."""
    i, j = CONVENTIONS.index(convention), list(METRICS).index(metric)
    return np.array([np.median(sample.tasks[:, i, j]) for sample in found])


def draw(
    found: Sequence[Sampled], xlabel: str, example: str, unweighted: Sequence[Sampled] = ()
) -> Figure:
    """Violins over tasks against memory, a row a convention, a column a metric."""
    figure, grid = plt.subplots(2, 3, figsize=(WIDTH, 4.6), sharex=True, sharey="col")
    for i, (convention, axes) in enumerate(zip(CONVENTIONS, grid, strict=True)):
        for j, (name, ax) in enumerate(zip(METRICS.values(), axes, strict=True)):
            _draw_panel(ax, found, i, j, example)
            if unweighted:
                memory = [100 * sample.relative_memory for sample in unweighted]
                middle = [np.median(sample.tasks[:, i, j]) for sample in unweighted]
                ax.plot(memory, middle, color=ORANGE, label="median without weights")
            ax.set_title(f"{name}, {convention}")
    for ax in grid[-1]:
        ax.set_xlabel(xlabel)
        # Of the column, after all is drawn: it ends autoscaling.
        ax.set_ylim(bottom=0)
    looks.legend(figure, grid[0, 0], columns=2)
    return figure


def _draw_panel(ax: Axes, found: Sequence[Sampled], i: int, j: int, example: str) -> None:
    memory = [100 * sample.relative_memory for sample in found]
    violins = ax.violinplot(
        [sample.tasks[:, i, j] for sample in found],
        memory,
        widths=0.7 * min(np.diff(sorted(memory))) if len(memory) > 1 else 1,
        showmedians=True,
    )
    for part in ("cbars", "cmins", "cmaxes", "cmedians"):
        violins[part].set(linewidth=0.7, color=BLUE)
    violins["cmedians"].set_label("tasks: range and median")
    ax.errorbar(
        memory,
        [sample.example[:, i, j].mean() for sample in found],
        [sample.example[:, i, j].std() for sample in found],
        color=RED,
        linestyle="none",
        linewidth=1,
        capsize=2,
        label=f"{example},\nmean ± s.d. of {len(found[0].example)} samples",
    )
