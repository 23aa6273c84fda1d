"""What the outcomes of settings.py say: means, differences from ED-MF, pictures, anchors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from itertools import groupby
from typing import Final, Literal

import matplotlib.pyplot as plt
import numpy as np
from anchors import Anchor, claim
from common import BLACK, BLUE, GREEN, ORANGE, RED, WIDTH
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray
from settings import AUTHORS, LARGEST, PLAIN, RANKS, Outcome

Metric = Literal["convergence", "hyperdiff"]
Row = Mapping[str, str | int | float]

METRICS: Final[Mapping[Metric, str]] = {"convergence": "convergence", "hyperdiff": "HyperDiff"}

AS_RUN: Final = ("qr-mf", "random-mf", "bo-mf-ascending", "bo-full-ascending")
AS_WRITTEN: Final = ("qr-mf", "random-mf", "bo-mf", "bo-full")
"""ED-MF's rivals, as in the authors' runs and as in their text."""

STYLES: Final = {
    "ed-mf": ("ED-MF", BLUE, "-"),
    "qr-mf": ("QR-MF", ORANGE, "-"),
    "random-mf": ("random-MF", BLACK, "-"),
    "bo-mf": ("BO-MF", GREEN, "-"),
    "bo-mf-ascending": ("BO-MF, ascending", GREEN, ":"),
    "bo-full": ("BO-FULL", RED, "-"),
    "bo-full-ascending": ("BO-FULL, ascending", RED, ":"),
}


def summaries(found: Sequence[Outcome]) -> list[Row]:
    """Means and standard errors over tasks: a row a convention, setting, technique and count."""

    def key(outcome: Outcome) -> tuple[str, str, str, int]:
        return (
            outcome.convention,
            outcome.setting,
            outcome.technique,
            outcome.measurements,
        )

    rows: list[Row] = []
    for (convention, setting, technique, count), group in groupby(sorted(found, key=key), key):
        of_tasks = np.array([astuple(outcome)[-3:] for outcome in group])
        (memory, _), convergence, hyperdiff = (mean_and_error(column) for column in of_tasks.T)
        rows.append(
            {
                "convention": convention,
                "setting": setting,
                "technique": technique,
                "measurements": count,
                "tasks": len(of_tasks),
                "relative_memory": memory,
                "convergence": convergence[0],
                "convergence_standard_error": convergence[1],
                "hyperdiff": hyperdiff[0],
                "hyperdiff_standard_error": hyperdiff[1],
            }
        )
    return rows


def few(convention: str) -> range:
    """The three smallest numbers of measurements that determine an embedding."""
    return range(RANKS[convention], RANKS[convention] + 3)


def excess(
    found: Sequence[Outcome],
    convention: str,
    setting: str,
    technique: str,
    metric: Metric,
    counts: Sequence[int],
) -> tuple[float, float]:
    """By how much a technique is worse than ED-MF, mean over ``counts``, paired over tasks.

    Returns:
        Mean over tasks and its standard error.
    """
    sums: dict[str, dict[str, float]] = {"ed-mf": {}, technique: {}}
    for outcome in found:
        if (
            (outcome.convention, outcome.setting) == (convention, setting)
            and outcome.technique in sums
            and outcome.measurements in counts
        ):
            of_tasks = sums[outcome.technique]
            of_tasks[outcome.task] = of_tasks.get(outcome.task, 0) + getattr(outcome, metric)
    ours, theirs = sums.values()
    return mean_and_error(np.array([theirs[task] - ours[task] for task in ours]) / len(counts))


def compared(
    found: Sequence[Outcome],
    convention: str,
    setting: str,
    rivals: Sequence[str],
    counts: Sequence[int],
    result: str,
    paper: str,
) -> Anchor:
    """An anchor: by two standard errors, no rival is better than ED-MF in either metric."""
    found_excess = _excesses(found, convention, setting, rivals, counts)
    better = [
        f"{STYLES[rival][0]} in {METRICS[metric]}"
        for (metric, rival), (mean, error) in found_excess.items()
        if mean < -2 * error
    ]
    return claim(
        f"{result}: Setting {setting}, {_described(convention, rivals)}",
        paper,
        _said(found_excess),
        not better,
        f"by how much they are worse than ED-MF at {_span(counts)}, ± standard error over tasks"
        + f"; better by more than two: {', '.join(better)}" * bool(better),
    )


def caught_up(
    found: Sequence[Outcome],
    convention: str,
    setting: str,
    rivals: Sequence[str],
    result: str,
    paper: str,
) -> Anchor:
    """An anchor: with most measurements half of the rivals' metrics are ED-MF's or better."""
    counts = [LARGEST]
    found_excess = _excesses(found, convention, setting, rivals, counts)
    matching = [mean <= 2 * error for mean, error in found_excess.values()]
    return claim(
        f"{result}: Setting {setting}, {_described(convention, rivals)}",
        paper,
        _said(found_excess),
        sum(matching) >= len(matching) / 2,
        f"by how much they are worse than ED-MF at {_span(counts)}; {sum(matching)} of "
        f"{len(matching)} within two standard errors",
    )


def _excesses(
    found: Sequence[Outcome],
    convention: str,
    setting: str,
    rivals: Sequence[str],
    counts: Sequence[int],
) -> dict[tuple[Metric, str], tuple[float, float]]:
    return {
        (metric, rival): excess(found, convention, setting, rival, metric, counts)
        for metric in METRICS
        for rival in rivals
    }


def _said(excesses: Mapping[tuple[Metric, str], tuple[float, float]]) -> str:
    texts = []
    for metric, name in METRICS.items():
        of_rivals = ", ".join(
            f"{STYLES[rival][0]} {mean:+.4f} ± {error:.4f}"
            for (of_metric, rival), (mean, error) in excesses.items()
            if of_metric == metric
        )
        texts.append(f"{name}: {of_rivals}")
    return "; ".join(texts)


def _described(convention: str, rivals: Sequence[str]) -> str:
    if convention == AUTHORS:
        order = "smallest" if "bo-mf-ascending" in rivals else "largest"
        return f"authors' computation, BO taking the {order} expected improvement"
    return convention


def _span(counts: Sequence[int]) -> str:
    many = len(counts) > 1
    return f"{counts[0]} to {counts[-1]} measurements" if many else f"{counts[0]} measurements"


def draw(
    rows: Sequence[Row],
    panels: Sequence[tuple[str, Metric]],
    conventions: Sequence[str] = (AUTHORS, PLAIN),
) -> Figure:
    """A row for every setting and metric, a column for every convention."""
    size = (WIDTH, 0.9 + 1.75 * len(panels))
    figure, grid = plt.subplots(len(panels), len(conventions), figsize=size, squeeze=False)
    for (setting, metric), axes in zip(panels, grid, strict=True):
        for convention, ax in zip(conventions, axes, strict=True):
            of_panel = [
                row for row in rows if (row["convention"], row["setting"]) == (convention, setting)
            ]
            _draw_panel(ax, of_panel, metric)
            ax.set_title(f"Setting {setting}, {convention}")
        axes[0].set_ylabel(f"{METRICS[metric]} (mean ± s.e.)")
    for ax in grid[-1]:
        ax.set_xlabel("memory of all measurements\n(% of measuring everything permitted)")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def _draw_panel(ax: Axes, rows: Sequence[Row], metric: Metric) -> None:
    for technique, (label, color, line) in STYLES.items():
        lines = [row for row in rows if row["technique"] == technique]
        if lines:
            ax.errorbar(
                [100 * float(row["relative_memory"]) for row in lines],
                [float(row[metric]) for row in lines],
                [float(row[f"{metric}_standard_error"]) for row in lines],
                color=color,
                linestyle=line,
                label=label,
                linewidth=1,
                elinewidth=0.6,
            )
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and its standard error, NaN for a single value."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(error)
