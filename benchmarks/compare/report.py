"""The summary as people read it: Markdown tables and a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from contestants import CONTESTANTS, Ours
from measures import SHARES
from summary import Effort, Summary

# Okabe and Ito's colours, which the colour-blind can tell apart.
STYLES: Final = {
    "random": ("0.55", "-"),
    "brute-force": ("0.55", "--"),
    "nsga2": ("0.55", ":"),
    "tpe-categorical": ("#56B4E9", "--"),
    "tpe-integer": ("#56B4E9", "-"),
    "tpe-multivariate-categorical": ("#0072B2", "--"),
    "tpe-multivariate-integer": ("#0072B2", "-"),
    "gp-categorical": ("#009E73", "--"),
    "gp-integer": ("#009E73", "-"),
    "botorch-categorical": ("#CC79A7", "--"),
    "botorch-integer": ("#CC79A7", "-"),
    "qr-mf": ("#E69F00", ":"),
    "ed-mf": ("#E69F00", "-"),
    "cold-start": ("#D55E00", "--"),
    "bayesian": ("#D55E00", "-"),
}
"""Color and line: a family of samplers a color, ours warm ones."""

PANELS: Final = {
    "hypervolume_regret": "hypervolume regret of what was measured",
    "recommended_regret": "hypervolume regret of what is recommended",
    "cap_regret": "error regret under ten memory caps",
}
"""The measures that are shown, and how they are called."""


def means(rows: Iterable[Summary], measure: str) -> str:
    """Means by trials, a row a sampler; the lowest of every column is bold."""
    own = [row for row in rows if (row.counted, row.measure) == ("trials", measure)]
    budgets = sorted({row.measurements for row in own})
    lowest = {b: min(row.mean for row in own if row.measurements == b) for b in budgets}
    lines = [["measurements", *map(str, budgets)]]
    for sampler in dict.fromkeys(row.sampler for row in own):
        of_sampler = [row for row in own if row.sampler == sampler]
        cells = [_marked(row.mean, row.mean == lowest[row.measurements]) for row in of_sampler]
        lines.append([CONTESTANTS[sampler].label, *cells])
    return _table(lines)


def margins(rows: Iterable[Summary], measure: str) -> str:
    """Ours against the best built-in sampler of every column: difference and ratio of means."""
    own = [row for row in rows if (row.counted, row.measure) == ("trials", measure)]
    budgets = sorted({row.measurements for row in own})
    best = {row.measurements: row.best_built_in for row in own}
    lines = [["measurements", *map(str, budgets)]]
    lines.append(["best built-in", *(CONTESTANTS[best[b]].label for b in budgets)])
    for sampler, group in groupby(
        sorted(own, key=lambda row: (list(CONTESTANTS).index(row.sampler), row.measurements)),
        lambda row: row.sampler,
    ):
        if not isinstance(CONTESTANTS[sampler], Ours):
            continue
        of_sampler = list(group)
        label = CONTESTANTS[sampler].label
        lines.append(
            [
                f"{label}: difference",
                *(
                    f"{_signed(row.difference)} ± {_short(row.difference_standard_error)}"
                    for row in of_sampler
                ),
            ]
        )
        lines.append([f"{label}: ratio", *(f"{row.ratio:.2f}" for row in of_sampler)])
    return _table(lines)


def needed(rows: Sequence[Effort]) -> str:
    """Trials needed, repeats and time, a row a sampler."""
    lines = [
        [
            "sampler",
            *(f"{share:.0%}" for share in SHARES),
            "different configurations",
            "ms a trial, median",
            "ms a trial, mean",
        ]
    ]
    for sampler, group in groupby(rows, lambda row: row.sampler):
        of_sampler = list(group)
        first = of_sampler[0]
        cells = [
            f"{f'> {row.trials}' if math.isinf(row.median_trials) else f'{row.median_trials:g}'}"
            f" ({row.reached:.0%})"
            for row in of_sampler
        ]
        lines.append(
            [
                CONTESTANTS[sampler].label,
                *cells,
                f"{first.distinct:.1f} of {first.trials}",
                _time(first.median_milliseconds),
                _time(first.mean_milliseconds),
            ]
        )
    return _table(lines)


def tables(rows: Sequence[Summary], needs: Sequence[Effort]) -> list[str]:
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


def draw(rows: Sequence[Summary], title: str, path: Path) -> None:
    """Regret against measurements; ours thick, with standard errors."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter, NullLocator

    figure, panels = plt.subplots(1, len(PANELS), figsize=(12, 5), layout="constrained")
    for axes, (measure, label) in zip(panels, PANELS.items(), strict=True):
        own = [row for row in rows if (row.counted, row.measure) == ("trials", measure)]
        for sampler, (color, line) in STYLES.items():
            of_sampler = [row for row in own if row.sampler == sampler]
            if not of_sampler:
                continue
            ours = isinstance(CONTESTANTS[sampler], Ours)
            counts = [row.measurements for row in of_sampler]
            means = [row.mean for row in of_sampler]
            axes.plot(
                counts,
                means,
                line,
                color=color,
                linewidth=2.2 if ours else 1.1,
                marker="o" if ours else None,
                markersize=4,
                zorder=3 if ours else 2,
                label=CONTESTANTS[sampler].label,
            )
            if ours:
                errors = [row.standard_error for row in of_sampler]
                # A logarithmic axis has no zero: bands end at a third of their mean.
                low = [max(m - error, m / 3) for m, error in zip(means, errors, strict=True)]
                high = [mean + error for mean, error in zip(means, errors, strict=True)]
                axes.fill_between(counts, low, high, color=color, alpha=0.15, linewidth=0)
        axes.set(xscale="log", yscale="log", xlabel="measurements (trials)")
        axes.set_title(label, fontsize=10)
        budgets = sorted({row.measurements for row in own})
        axes.set_xticks(budgets, list(map(str, budgets)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *body = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body))


def _marked(value: float, bold: bool) -> str:
    return f"**{_short(value)}**" if bold else _short(value)


def _short(value: float) -> str:
    """Three decimals, without the zero before the point.

    >>> _short(0.0471), _short(1.0), _short(float("nan"))
    ('.047', '1.000', 'nan')
    """
    return f"{value:.3f}".removeprefix("0") if value >= 0 else f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'}{_short(abs(value))}"


def _time(milliseconds: float) -> str:
    """Two digits at least.

    >>> _time(0.123), _time(9.87), _time(1234.5)
    ('0.12', '9.9', '1234')
    """
    return f"{milliseconds:.{2 if milliseconds < 1 else 1 if milliseconds < 10 else 0}f}"
