"""The tables of a page of facts: computed from a corpus without gaps, written as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from appendix_d import frontier_counts
from common import Script, label
from figure_06 import rank_correlations
from hardware import marginal_counts, near_best, on_frontier, smallest_set
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from variance import Noise, degrees_of_freedom, sums_of_squares

from optuna_peppp.pareto import scale

TOLERANCES: Final = (0.005, 0.01, 0.02)


def write_singular_values(script: Script) -> None:
    """Shares of the squared sum, of the errors and of their task x configuration interaction."""
    errors = script.corpus.errors
    interaction = errors - errors.mean(axis=1, keepdims=True) - errors.mean(axis=0) + errors.mean()
    shares = {}
    for name, matrix in {"errors": errors, "main_effects_removed": interaction}.items():
        squares = np.linalg.svd(matrix, compute_uv=False) ** 2
        shares[name] = squares / (squares.sum() or 1.0)
    # Without main effects the last singular value is 0.
    script.write_table(
        [
            {"index": index, **{name: _digits(share[index - 1]) for name, share in shares.items()}}
            for index in range(1, min(errors.shape))
        ],
        "singular_values",
    )


def write_variance(script: Script, noise: Noise | None) -> None:
    """Shares of the variance within a task, mean over tasks, by effect; and the noise, if known."""
    space, sums = script.corpus.space, sums_of_squares(script.corpus.space, script.corpus.errors)
    totals = np.sum(list(sums.values()), axis=0)
    rows = []
    for name, degrees in degrees_of_freedom(space).items():
        own = sums[name] / np.where(totals > 0, totals, np.nan)
        row = {
            "effect": name,
            "degrees_of_freedom": degrees,
            "share": _digits(sums[name].mean() / totals.mean()),
            "lowest": _digits(np.nanmin(own)),
            "highest": _digits(np.nanmax(own)),
        }
        if noise is not None:
            net = sums[name].mean() - degrees * noise.variance
            row["net_of_noise"] = _digits(net / totals.mean())
        rows.append(row)
    script.write_table(rows, "variance")
    if noise is None:
        # Of an earlier run, which had repeats.
        (script.output / f"{script.name}_noise.csv").unlink(missing_ok=True)
    else:
        variance = totals.mean() / (len(space) - 1)
        row = {"entries": noise.entries}
        for name, value in (("", noise.variance), ("_low", noise.low), ("_high", noise.high)):
            row |= {f"variance{name}": _digits(value), f"share{name}": _digits(value / variance)}
        script.write_table([row], "noise")


def write_tau(script: Script, names: Sequence[str]) -> None:
    """Kendall's tau of every two tasks, in an order that puts similar ones side by side."""
    tau = rank_correlations(script.corpus.errors)
    # A task on which all configurations err alike has no tau: it counts as unrelated.
    distances = 1 - np.nan_to_num(tau, nan=0.0)
    np.fill_diagonal(distances, 0.0)
    tree = linkage(squareform(distances), "average", optimal_ordering=True)
    order = leaves_list(tree).tolist()
    script.write_table(
        [
            {"task": names[row], **{names[column]: f"{tau[row, column]:.4f}" for column in order}}
            for row in order
        ],
        "tau",
    )


def write_frontiers(script: Script) -> None:
    """Counts on frontiers, of configurations and of formats, and the smallest sets."""
    corpus = script.corpus
    counts = frontier_counts(corpus)
    order = np.argsort(-counts["nondominated"], kind="stable")
    script.write_table(
        [
            {"configuration": label(corpus.space, int(j))}
            | {kind: count[j] for kind, count in counts.items()}
            for j in order
        ],
        "frontier",
    )
    script.write_table(
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
                    "good_alone": _digits(good[:, j].mean()),
                }
            )
    script.write_table(rows, "smallest_sets")


def _digits(value: float) -> str:
    return f"{value:.6g}"
