"""What the error matrices are like: Figures 6, 14, 15, 16 and 21.

Of singular values the paper's Appendix E counts squares; Section 4.1 says that rank 5 "accounts for
78% of the variance": that is the first five's share of the plain sum. Figure 14 has both.
"""

from __future__ import annotations

from itertools import combinations
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau

from benchmarks.harness.looks import ORANGE, WIDTH
from benchmarks.harness.tables import Row
from benchmarks.paper import learning_rates
from benchmarks.paper.anchors import Anchor, claim, number
from benchmarks.paper.script import MIB, Script

IMAGENET: Final = slice(37, 87)
"""Rows of the authors' matrix: indices 38 to 87 of Table 2."""

SHOWN: Final = 30
BINS: Final = 30


def figure_06(script: Script) -> list[Anchor]:
    """Kendall's tau of the errors of every two tasks (a), singular values (b)."""
    corpus, results = script.corpus, script.results
    tau = rank_correlations(corpus.errors)
    values = np.linalg.svd(corpus.errors, compute_uv=False)
    results.table(
        [
            {"task": task, **dict(zip(corpus.tasks, row, strict=True))}
            for task, row in zip(corpus.tasks, tau.round(4).tolist(), strict=True)
        ]
    )
    results.table(
        [{"index": i, "singular_value": value} for i, value in enumerate(values.tolist(), start=1)],
        "singular_values",
    )
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.9), width_ratios=(1.15, 1))
    n = len(corpus.tasks)
    image = left.imshow(tau, cmap="RdBu", vmin=-1, vmax=1, extent=(0.5, n + 0.5, n + 0.5, 0.5))
    left.set(title="(a) rank correlation of tasks", xlabel="index of task", ylabel="index of task")
    left.locator_params(integer=True)
    figure.colorbar(image, ax=left, label="Kendall's tau", shrink=0.8)
    _draw_values(right, values, "(b) errors of all tasks")
    results.picture(figure)
    return script.finish(_on_correlations(tau) if script.authors else [])


def rank_correlations(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kendall's tau-b of every two rows of shape (n, d): (n, n), NaN where a row is constant."""
    tau = np.eye(len(errors))
    for i, j in combinations(range(len(errors)), 2):
        tau[i, j] = tau[j, i] = kendalltau(errors[i], errors[j]).statistic
    return tau


def _on_correlations(tau: NDArray[np.float64]) -> list[Anchor]:
    pairs = tau[np.triu_indices(len(tau), 1)]
    imagenet = tau[IMAGENET, IMAGENET]
    alike = float(np.median(imagenet[np.triu_indices(len(imagenet), 1)]))
    return [
        claim(
            "similar tasks rank configurations alike: ImageNet's subsets (Section 3.1)",
            "larger correlations",
            f"median tau {alike:.2f}, of all pairs {np.median(pairs):.2f}",
            bool(alike > np.median(pairs)),
        ),
        claim(
            "pairs of tasks with negative correlation (Section 3.1)",
            "some",
            f"{(pairs < 0).mean():.0%}, the lowest {pairs.min():.2f}",
            bool((pairs < 0).any()),
        ),
    ]


def _draw_values(axes: Axes, values: ArrayLike, title: str) -> None:
    axes.semilogy(np.arange(1, np.size(values) + 1), values, marker=".")
    axes.set(title=title, xlabel="index", ylabel="singular value")


def figure_14(script: Script) -> list[Anchor]:
    """How much of the error matrix its first singular values carry."""
    values = np.linalg.svd(script.corpus.errors, compute_uv=False)
    squares, plain = shares(values**2), shares(values)
    script.results.table(
        [
            {"singular_values": k, "share_of_squares": square, "share_of_sum": share}
            for k, (square, share) in enumerate(zip(squares, plain, strict=True), start=1)
        ]
    )
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.5))
    for ax, share, title in zip(axes, (squares, plain), ("squares", "sum"), strict=True):
        shown = 100 * share[:SHOWN]
        ax.plot(np.arange(1, len(shown) + 1), shown, marker=".")
        ax.set(xlabel="number of singular values", ylabel=f"share of their {title} (%)")
    script.results.picture(figure)
    if not script.authors:
        return script.finish([])
    return script.finish(
        [
            number("first singular value, share of squares (Appendix E)", "99.0%", squares[0]),
            number(
                "first two singular values, share of squares (Appendix E)", "> 99.5%", squares[1]
            ),
            number(
                "rank 5, share of the variance (Section 4.1)",
                "78%",
                plain[4],
                f"share of the sum of singular values; of their squares it is {squares[4]:.1%}",
            ),
        ]
    )


def shares(values: ArrayLike) -> NDArray[np.float64]:
    """The first k values' share of the sum, for every k: shape (r,) as ``values``."""
    array = np.asarray(values, dtype=np.float64)
    return np.cumsum(array / array.sum())


def figure_15(script: Script) -> list[Anchor]:
    """Histograms of all errors and of all memory, with their medians."""
    quantities = (
        ("error", "test error", "", script.corpus.errors),
        ("memory", "memory of the training (MiB)", " MiB", script.corpus.memory / MIB),
    )
    rows: list[Row] = []
    medians: dict[str, float] = {}
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.5))
    for ax, (name, xlabel, unit, values) in zip(axes, quantities, strict=True):
        counts, edges = np.histogram(values, BINS)
        rows += [
            {"quantity": name, "from": low, "to": high, "count": count}
            for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
        ]
        medians[name] = median = float(np.median(values))
        ax.stairs(counts, edges, fill=True)
        ax.axvline(median, color=ORANGE, linestyle="--", label=f"median {median:.3g}{unit}")
        ax.set(xlabel=xlabel, ylabel=f"measurements, of {values.size:,}")
        # Above the bars, whatever their shape.
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1))
    script.results.table(rows)
    script.results.picture(figure)
    anchors = [
        number("median error (Appendix E)", "0.78", medians["error"]),
        number("median memory (Appendix E)", "816 MiB", medians["memory"], "printed as MB"),
    ]
    return script.finish(anchors if script.authors else [], medians=medians)


def figure_16(script: Script) -> list[Anchor]:
    """Tasks by the number of configurations that take less than the median memory."""
    corpus = script.corpus
    cap, d = float(np.median(corpus.memory)), len(corpus.space)
    below = (corpus.memory < cap).sum(axis=1)
    at_most = (corpus.memory <= cap).sum(axis=1)
    script.results.table(
        [
            {"task": task, "configurations_below": low, "configurations_at_most": most}
            for task, low, most in zip(corpus.tasks, below, at_most, strict=True)
        ]
    )
    figure, axes = plt.subplots(figsize=(WIDTH, 2.5))
    axes.bar(np.arange(d + 1), np.bincount(below, minlength=d + 1), width=1)
    axes.set(
        xlabel=f"configurations, of {d}, that take less than the median of {cap / MIB:.3g} MiB",
        ylabel=f"tasks, of {len(corpus.tasks)}",
        xlim=(-0.5, d + 0.5),
    )
    script.results.picture(figure)
    return script.finish(_on_memory(below, at_most, d) if script.authors else [], cap=cap)


def _on_memory(below: NDArray[np.int_], at_most: NDArray[np.int_], d: int) -> list[Anchor]:
    """Of resolution 32, tasks 1 to 21 of Table 2, and of resolution 64."""
    cheap, expensive = below[:21], below[21:]
    return [
        claim(
            "tasks of resolution 32 that allow all configurations under the median (Appendix E)",
            "all 21",
            f"{(cheap == d).sum()} of {len(cheap)}",
            bool((cheap == d).all()),
        ),
        claim(
            "configurations that tasks of resolution 64 allow (Appendix E)",
            f"far less than {d}",
            f"{expensive.min()} to {expensive.max()}",
            bool(expensive.max() < d / 2),
            "far less read as less than half; below the cap as in the caption, and up to "
            f"{at_most[21:].max()} with those that meet it exactly",
        ),
    ]


def figure_21(script: Script) -> list[Anchor]:
    """Singular values of the learning-rate-tuned errors, a row a task and learning rate."""
    # Rows that were measured in part have no place in a decomposition.
    errors = learning_rates.complete(script.tuned).errors
    values = np.linalg.svd(errors, compute_uv=False)
    squares = np.cumsum(values**2) / np.sum(values**2)
    script.results.table(
        [
            {"index": i, "singular_value": value, "share_of_squares": share}
            for i, (value, share) in enumerate(zip(values, squares, strict=True), start=1)
        ]
    )
    figure, axes = plt.subplots(figsize=(WIDTH, 2.6))
    _draw_values(axes, values, f"errors of {len(errors)} pairs of task and learning rate")
    script.results.picture(figure)
    if not learning_rates.is_authors(script.tuned):
        return script.finish([])
    return script.finish(
        [
            claim(
                "learning-rate-tuned matrix (Appendix E.4.2)",
                "45 rows, 99 columns",
                "{} rows, {} columns".format(*errors.shape),
                errors.shape == (45, 99),
            ),
            claim(
                "its singular values (Figure 21)",
                "fast decay",
                f"the first {squares[0]:.1%} of the squares, five {squares[4]:.1%}",
                bool(squares[4] > 0.99),
                "fast read as 99% of the squares in five; the paper prints no number",
            ),
        ]
    )
