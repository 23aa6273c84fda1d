"""The figure of how studies went: what their measurements still lack."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optuna_peppp import pareto
from optuna_peppp.configurations.cost import Cost
from optuna_peppp.corpora.measurements import averaged, check_errors
from optuna_peppp.pareto import REFERENCE, scale
from optuna_peppp.studies.results import measurements
from optuna_peppp.visualization.drawing import LINES, plain, require_plotly

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from optuna.study import Study

    from optuna_peppp.configurations.space import ConfigurationSpace

_DASHES: Final = ("solid", "dash", "dot", "dashdot")
_TICKS: Final = 10
"""About so many numbers at the axis of measurements."""


def plot_regret_history(
    studies: Study | Iterable[Study],
    space: ConfigurationSpace,
    memory: ArrayLike | Cost,
    *,
    errors: ArrayLike | None = None,
) -> go.Figure:
    """Plots by how much the configurations measured so far miss the best dominated area.

    A line per study: after each measurement, the hypervolume of the best frontier less that of
    the measured configurations, with memory scaled to [0, 1] and reference (1.05, 1). Studies
    whose names differ in a last number only, such as the seeds of a sampler, share a color and
    an entry of the legend.

    Args:
        studies: One or more studies of the same task, the first objective the error, minimized.
        space: The configurations.
        memory: Shape (d,), bytes of every configuration of ``space`` on the task, or another
            :class:`~optuna_peppp.Cost`.
        errors: Shape (d,), the true errors in [0, 1]. By default what all the studies measured
            together, repeats averaged: the best frontier is then that of their measurements.

    Raises:
        ImportError: plotly is not installed.
        ValueError: No study measured anything, ``errors`` is of another shape or not in [0, 1],
            ``memory`` is of another shape or not positive, or as
            :func:`~optuna_peppp.studies.results.measurements`.
    """
    go = require_plotly()
    studies = list(studies) if isinstance(studies, Iterable) else [studies]
    scaled = scale(Cost.of(memory, space).array)
    measured = [measurements(study, space) for study in studies]
    longest = max((len(indices) for indices, _ in measured), default=0)
    if longest == 0:
        raise ValueError(
            f"studies must hold at least one completed trial; of {len(studies)} none does"
        )
    if errors is None:
        indices, values = (np.concatenate(arrays) for arrays in zip(*measured, strict=True))
        truth = averaged(indices, values, len(space))
    else:
        truth = _checked(errors, len(space))

    def volume(indices: NDArray[np.intp]) -> float:
        return pareto.hypervolume(np.column_stack((scaled[indices], truth[indices])), REFERENCE)

    best = volume(np.flatnonzero(~np.isnan(truth)))
    groups = _groups([study.study_name for study in studies])
    looks = list(dict.fromkeys(groups))
    figure = go.Figure(
        layout={
            "title": "Hypervolume Regret History Plot",
            "showlegend": len(looks) > 1,
            "xaxis": {"title": "Measurements", "dtick": max(1, round(longest / _TICKS))},
            "yaxis": {"title": "Hypervolume regret", "rangemode": "tozero"},
        }
    )
    for number, (study, group) in enumerate(zip(studies, groups, strict=True)):
        indices, _ = measured[number]
        counts = range(1, len(indices) + 1)
        look = looks.index(group)
        figure.add_scatter(
            x=list(counts),
            y=[best - volume(indices[:count]) for count in counts],
            mode="lines+markers",
            name=plain(group),
            legendgroup=group,
            showlegend=group not in groups[:number],
            line={
                "color": LINES[look % len(LINES)],
                "dash": _DASHES[look // len(LINES) % len(_DASHES)],
                "shape": "hv",
            },
            marker={"size": 5},
            cliponaxis=False,
            hovertemplate=f"{plain(study.study_name)}<br>measurements: %{{x}}<br>"
            "regret: %{y:.4f}<extra></extra>",
        )
    return figure


def _groups(names: list[str]) -> list[str]:
    """Names without a last number, unless this would make all of them the same."""
    groups = [re.sub(r"[\W_]*\d+$", "", name) or name for name in names]
    return groups if len(set(groups)) > 1 else names


def _checked(errors: ArrayLike, d: int) -> NDArray[np.float64]:
    """True errors, of the right shape and range."""
    array = np.asarray(errors, dtype=np.float64)
    if array.shape != (d,):
        raise ValueError(
            f"errors must have shape ({d},), one entry per configuration of space; "
            f"got {array.shape}"
        )
    check_errors(array)
    return array
