"""The tables of a page of facts, computed from a corpus without gaps, and pictures of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from benchmarks.corpora.hardware import marginal_counts, near_best, on_frontier, smallest_set
from benchmarks.corpora.variance import Noise, degrees_of_freedom, sums_of_squares
from benchmarks.harness.looks import BLUE, ORANGE, WIDTH
from benchmarks.harness.script import Results
from benchmarks.harness.tables import six_digits
from benchmarks.paper.frontiers import count_rows, frontier_counts
from benchmarks.paper.matrix import rank_correlations
from benchmarks.paper.script import label
from optuna_peppp import ErrorMatrix
from optuna_peppp.pareto import scale

TOLERANCES: Final = (0.005, 0.01, 0.02)


def write_singular_values(results: Results, errors: NDArray[np.float64]) -> None:
    """Shares of the squared sum, of the errors and of their task x configuration interaction."""
    interaction = errors - errors.mean(axis=1, keepdims=True) - errors.mean(axis=0) + errors.mean()
    shares = {}
    for name, matrix in {"errors": errors, "main_effects_removed": interaction}.items():
        squares = np.linalg.svd(matrix, compute_uv=False) ** 2
        shares[name] = squares / (squares.sum() or 1.0)
    # Without main effects the last singular value is 0.
    rows = [
        {"index": index, **{name: float(share[index - 1]) for name, share in shares.items()}}
        for index in range(1, min(errors.shape))
    ]
    results.table(list(map(six_digits, rows)), "singular_values")


def write_variance(results: Results, corpus: ErrorMatrix, noise: Noise | None) -> None:
    """Shares of the variance within a task, mean over tasks, by effect; and the noise, if known."""
    sums = sums_of_squares(corpus.space, corpus.errors)
    totals = np.sum(list(sums.values()), axis=0)
    rows = []
    for name, degrees in degrees_of_freedom(corpus.space).items():
        own = sums[name] / np.where(totals > 0, totals, np.nan)
        row: dict[str, object] = {
            "effect": name,
            "degrees_of_freedom": degrees,
            "share": float(sums[name].mean() / totals.mean()),
            "lowest": float(np.nanmin(own)),
            "highest": float(np.nanmax(own)),
        }
        if noise is not None:
            net = sums[name].mean() - degrees * noise.variance
            row["net_of_noise"] = float(net / totals.mean())
        rows.append(six_digits(row))
    results.table(rows, "variance")
    if noise is None:
        # Of an earlier run, which had repeats.
        results.path("csv", "noise").unlink(missing_ok=True)
        return
    variance = float(totals.mean()) / (len(corpus.space) - 1)
    row = {"entries": noise.entries}
    for name, value in (("", noise.variance), ("_low", noise.low), ("_high", noise.high)):
        row |= {f"variance{name}": value, f"share{name}": value / variance}
    results.table([six_digits(row)], "noise")


def write_tau(results: Results, corpus: ErrorMatrix, names: Sequence[str]) -> None:
    """Kendall's tau of every two tasks, in an order that puts similar ones side by side."""
    tau = rank_correlations(corpus.errors)
    # A task on which all configurations err alike has no tau: it counts as unrelated.
    distances = 1 - np.nan_to_num(tau, nan=0.0)
    np.fill_diagonal(distances, 0.0)
    tree = linkage(squareform(distances), "average", optimal_ordering=True)
    order = leaves_list(tree).tolist()
    results.table(
        [
            {"task": names[row], **{names[column]: f"{tau[row, column]:.4f}" for column in order}}
            for row in order
        ],
        "tau",
    )


def write_frontiers(results: Results, corpus: ErrorMatrix) -> None:
    """Counts on frontiers, of configurations and of formats, and the smallest sets."""
    results.table(count_rows(corpus, frontier_counts(corpus)), "frontier")
    results.table(
        [
            dict(zip(("name", "value", "frontier_points", "tasks"), count, strict=True))
            for count in marginal_counts(corpus.space, on_frontier(corpus))
        ],
        "marginals",
    )
    memory = np.mean([scale(row) for row in corpus.memory], axis=0)
    rows = []
    for tolerance in TOLERANCES:
        good = near_best(corpus, tolerance)
        for j in smallest_set(good, memory).tolist():
            rows.append(
                {
                    "tolerance": tolerance,
                    "configuration": label(corpus.space, j),
                    **corpus.space.params(j),
                    "good_alone": f"{good[:, j].mean():.6g}",
                }
            )
    results.table(rows, "smallest_sets")


def draw_singular_values(results: Results) -> None:
    """Shares of the squared sum over their index."""
    rows = results.read("singular_values")
    figure, axes = plt.subplots(figsize=(WIDTH, 2.8))
    for column, color, marker, name in (
        ("errors", BLUE, "o", "errors"),
        ("main_effects_removed", ORANGE, "s", "main effects of task and configuration removed"),
    ):
        axes.semilogy(
            [int(row["index"]) for row in rows],
            [float(row[column]) for row in rows],
            color=color,
            marker=marker,
            markersize=3.5,
            linewidth=1,
            label=name,
        )
    axes.set(xlabel="index of the singular value", ylabel="share of the squared sum")
    axes.locator_params(axis="x", integer=True)
    axes.legend()
    results.picture(figure, "singular_values")


def draw_tau(results: Results) -> None:
    """Kendall's tau of every two tasks, in the order of the table."""
    rows = results.read("tau")
    names = [row["task"] for row in rows]
    tau = np.array([[float(row[name]) for name in names] for row in rows])
    pairs = tau[np.triu_indices(len(tau), 1)]
    # Colours over what occurs: tasks that are all alike would be one colour on -1 to 1.
    figure, axes = plt.subplots(figsize=(WIDTH, 0.72 * WIDTH))
    image = axes.imshow(tau, aspect="auto", vmin=float(np.nanmin(pairs)), vmax=1)
    axes.set_xticks([])
    axes.set_xlabel("the same tasks in the same order")
    # From 6 points for 20 names down, so that names do not overlap.
    axes.set_yticks(range(len(names)), names, fontsize=min(6.0, 200 / len(names)))
    figure.colorbar(image, ax=axes, label="Kendall's tau", shrink=0.8)
    results.picture(figure, "tau")
