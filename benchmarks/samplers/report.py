"""The summary as people read it: Markdown tables and a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness import looks
from benchmarks.harness.looks import BLUE, GREEN, ORANGE, PINK, RED, SKY
from benchmarks.harness.tables import Row, markdown
from benchmarks.samplers.contestants import CONTESTANTS, Ours
from benchmarks.samplers.measures import SHARES

STYLES: Final = {
    "random": ("0.55", "-"),
    "brute-force": ("0.55", "--"),
    "nsga2": ("0.55", ":"),
    "tpe-categorical": (SKY, "--"),
    "tpe-integer": (SKY, "-"),
    "tpe-multivariate-categorical": (BLUE, "--"),
    "tpe-multivariate-integer": (BLUE, "-"),
    "gp-categorical": (GREEN, "--"),
    "gp-integer": (GREEN, "-"),
    "botorch-categorical": (PINK, "--"),
    "botorch-integer": (PINK, "-"),
    "qr-mf": (ORANGE, ":"),
    "ed-mf": (ORANGE, "-"),
    "cold-start": (RED, "--"),
    "bayesian": (RED, "-"),
}
"""Color and line: a family of samplers a color, ours warm ones."""

PANELS: Final = {
    "hypervolume_regret": "hypervolume regret of what was measured",
    "recommended_regret": "hypervolume regret of what is recommended",
    "cap_regret": "error regret under ten memory caps",
}
"""The measures that are shown, and how they are called."""


def _chosen(rows: Iterable[Row], measure: str) -> list[Row]:
    return [row for row in rows if (row["counted"], row["measure"]) == ("trials", measure)]


def means(rows: Iterable[Row], measure: str) -> str:
    """Means by trials, a row a sampler; the lowest of every column is bold."""
    own = _chosen(rows, measure)
    lowest: dict[object, float] = {}
    for row in own:
        count, mean = row["measurements"], float(row["mean"])
        lowest[count] = min(mean, lowest.get(count, math.inf))
    lines = [["measurements", *map(str, lowest)]]
    for sampler in dict.fromkeys(str(row["sampler"]) for row in own):
        cells = [
            "{1}{0}{1}".format(_short(r["mean"]), "**" * (r["mean"] == lowest[r["measurements"]]))
            for r in _of(own, sampler)
        ]
        lines.append([CONTESTANTS[sampler].label, *cells])
    return markdown(lines)


def margins(rows: Iterable[Row], measure: str) -> str:
    """Ours against the best built-in sampler of every column: difference and ratio of means."""
    own = _chosen(rows, measure)
    best = {str(row["measurements"]): CONTESTANTS[str(row["best_built_in"])].label for row in own}
    lines = [["measurements", *best], ["best built-in", *best.values()]]
    for sampler, contestant in CONTESTANTS.items():
        ours = _of(own, sampler)
        if isinstance(contestant, Ours) and ours:
            label = contestant.label
            cells = (
                f"{_signed(row['difference'])} ± {_short(row['difference_standard_error'])}"
                for row in ours
            )
            lines.append([f"{label}: difference", *cells])
            lines.append([f"{label}: ratio", *(f"{row['ratio']:.2f}" for row in ours)])
    return markdown(lines)


def _of(rows: Iterable[Row], sampler: str) -> list[Row]:
    return [row for row in rows if row["sampler"] == sampler]


def needed(rows: Sequence[Row]) -> str:
    """Trials needed, repeats and time, a row a sampler."""
    times = ("ms a trial, median", "ms a trial, mean")
    lines = [["sampler", *(f"{share:.0%}" for share in SHARES), "different configurations", *times]]
    for sampler in dict.fromkeys(str(row["sampler"]) for row in rows):
        own = _of(rows, sampler)
        cells = []
        for row in own:
            trials = float(row["median_trials"])
            reached = f"> {row['trials']}" if math.isinf(trials) else f"{trials:g}"
            cells.append(f"{reached} ({row['reached']:.0%})")
        different = f"{own[0]['distinct']:.1f} of {own[0]['trials']}"
        milliseconds = (_time(float(own[0][f"{k}_milliseconds"])) for k in ("median", "mean"))
        lines.append([CONTESTANTS[sampler].label, *cells, different, *milliseconds])
    return markdown(lines)


def tables(rows: Sequence[Row], needs: Sequence[Row]) -> list[str]:
    """All tables, each under a line that says what it shows."""
    parts = []
    for measure, label in PANELS.items():
        parts += [f"{label.capitalize()}, by trials:", means(rows, measure)]
        parts += [f"{label.capitalize()}, ours less the best built-in:", margins(rows, measure)]
    parts += ["Memory of all measurements by that of measuring everything once:"]
    parts += [means(rows, "relative_memory")]
    shares = ", ".join(f"{share:.0%}" for share in SHARES)
    parts += [
        f"Trials until {shares} of the true hypervolume are measured, median (runs that get "
        "there), repeats and processor time:"
    ]
    return [*parts, needed(needs)]


def draw(rows: Sequence[Row], title: str) -> Figure:
    """Regret against measurements; ours thick, with standard errors."""
    figure, grid = looks.panels(1, len(PANELS), figsize=(12, 5))
    for axes, (measure, label) in zip(grid[0], PANELS.items(), strict=True):
        own = _chosen(rows, measure)
        for sampler in STYLES:
            _draw_sampler(axes, sampler, _of(own, sampler))
        looks.logarithmic(axes, ticks=sorted({int(row["measurements"]) for row in own}))
        axes.set(xlabel="measurements (trials)", title=label)
        axes.grid(alpha=0.25)
    looks.legend(figure, grid[0, 0], "lower", columns=5)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw_sampler(axes: Axes, sampler: str, rows: Sequence[Row]) -> None:
    if not rows:
        return
    (color, line), contestant = STYLES[sampler], CONTESTANTS[sampler]
    counts, mean, error = (
        np.array([float(row[name]) for row in rows])
        for name in ("measurements", "mean", "standard_error")
    )
    if not isinstance(contestant, Ours):
        axes.plot(counts, mean, line, color=color, linewidth=1.1, label=contestant.label)
        return
    thick: dict[str, Any] = {"linewidth": 2.2, "marker": "o", "markersize": 4, "zorder": 3}
    axes.plot(counts, mean, line, color=color, label=contestant.label, **thick)
    # A logarithmic axis has no zero: bands end at a third of their mean.
    low = np.maximum(mean - error, mean / 3)
    axes.fill_between(counts, low, mean + error, color=color, alpha=0.15, linewidth=0)


def _short(value: str | float) -> str:
    """Three decimals, without the zero before the point.

    >>> _short(0.0471), _short(1.0), _short(float("nan"))
    ('.047', '1.000', 'nan')
    """
    return f"{float(value):.3f}".removeprefix("0")


def _signed(value: str | float) -> str:
    return f"{'-' if float(value) < 0 else '+'}{_short(abs(float(value)))}"


def _time(milliseconds: float) -> str:
    """Two digits at least.

    >>> _time(0.123), _time(9.87), _time(1234.5)
    ('0.12', '9.9', '1234')
    """
    return f"{milliseconds:.{2 if milliseconds < 1 else 1 if milliseconds < 10 else 0}f}"
