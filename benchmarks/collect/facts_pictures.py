"""The pictures of a page of facts, drawn from its tables."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from common import BLUE, ORANGE, WIDTH, Script
from facts_format import read


def draw_singular_values(script: Script) -> None:
    """Shares of the squared sum over their index."""
    rows = read(script.output, script.name, "singular_values")
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
    script.write_picture(figure, "singular_values")


def draw_tau(script: Script) -> None:
    """Kendall's tau of every two tasks, in the order of the table."""
    rows = read(script.output, script.name, "tau")
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
    script.write_picture(figure, "tau")
