"""How all pictures look; importing it sets the style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter, NullLocator

WIDTH: Final = 6.0
"""Inches: 900 pixels, a README's width."""

# Okabe and Ito's colours, which the colour-blind can tell apart.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PINK = "#0072B2", "#D55E00", "#CC79A7"
GREY: Final = "0.65"

matplotlib.use("Agg")
plt.rcParams.update(
    {
        "axes.prop_cycle": f"cycler(color={[BLUE, ORANGE, GREEN, RED, PINK, SKY, BLACK]})",
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 9,
        "figure.constrained_layout.use": True,
        "font.size": 8,
        "legend.frameon": False,
        "savefig.dpi": 150,
    }
)


def colors(count: int) -> list[Any]:
    """So many that can be told apart side by side."""
    return [plt.get_cmap("turbo")(place) for place in np.linspace(0, 1, count)]


def legend(
    figure: Figure, axes: Axes, place: Literal["upper", "lower"] = "upper", columns: int = 3
) -> None:
    """The names of one panel beside all panels."""
    handles, labels = axes.get_legend_handles_labels()
    loc: Any = f"outside {place} center"
    figure.legend(handles, labels, loc=loc, ncols=columns)


def logarithmic(axes: Axes, *, y: bool = True, ticks: Sequence[int] = ()) -> None:
    """Plain numbers on logarithmic axes: y at 1, 2 and 5, x, where there are any, at ``ticks``."""
    if y:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    if ticks:
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())


def panels(rows: int, columns: int, **settings: Any) -> tuple[Figure, Any]:
    """A figure and its panels, shape (rows, columns)."""
    return plt.subplots(rows, columns, squeeze=False, **settings)
