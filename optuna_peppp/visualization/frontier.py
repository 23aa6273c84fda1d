"""The figure of a prediction: errors drawn against memory, or another cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optuna_peppp.configurations.cost import Cost
from optuna_peppp.pareto import reference
from optuna_peppp.prediction import RIGHT, Prediction
from optuna_peppp.sizes import base_unit
from optuna_peppp.studies.baseline import Baseline
from optuna_peppp.studies.results import predict
from optuna_peppp.visualization.drawing import BLUE, GRAY, RED, params_text, plain, require_plotly

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from optuna.study import Study

    from optuna_peppp.meta.model import MetaModel

_BAND: Final = "rgba(86, 180, 233, 0.4)"
_SPAN: Final = 5.0
"""Errors that differ by this factor are drawn on a logarithmic axis."""

_STAIRCASE: Final = "#333333"


def plot_frontier(
    study: Study,
    meta: MetaModel,
    memory: ArrayLike | Cost,
    *,
    memory_cap: str | float | None = None,
) -> go.Figure:
    """Plots the error of every configuration against its memory or other cost, and the frontier.

    The frontier is a staircase: the lowest error, measured or predicted, for so much memory. The
    band tells, at the points of the frontier, between which errors measurements of everything
    would find it, with probability 90%. A study without trials shows what past tasks tell. The axis
    of errors is logarithmic where they differ by a factor of 5, and ends at half of the smallest,
    where the band is cut off and errors of zero lie. A line is the float32 baseline, where `tune`
    has measured it.

    Args:
        study: A study whose first objective is the error, minimized.
        meta: The meta-model, fitted to past tasks.
        memory: Shape (d,), bytes of every configuration of ``meta.space`` on the task, or another
            :class:`~optuna_peppp.Cost`.
        memory_cap: The most that the recommended configuration may need, in bytes or as text
            such as ``"275MB"``, in the unit of the cost where that is another; drawn where some
            configuration needs more.

    Raises:
        ImportError: plotly is not installed.
        ValueError: As :func:`~optuna_peppp.predict` and :meth:`Prediction.recommend`.
    """
    require_plotly()
    return draw(predict(study, meta, memory), memory_cap, Baseline.of(study))


def draw(
    prediction: Prediction,
    memory_cap: str | float | None = None,
    baseline: Baseline | None = None,
) -> go.Figure:
    """The figure of :func:`plot_frontier`, of a prediction that was made already."""
    go = require_plotly()
    recommended = prediction.recommend(memory_cap)
    needed, mean, frontier = prediction.memory, prediction.mean, prediction.frontier
    axis, floor = _axis_of_errors(mean)
    shown = np.maximum(mean, floor)
    low, high = np.maximum(prediction.band, floor)
    end, _ = reference(needed)
    text = [_outcome(prediction, interval, j) for j, interval in enumerate(prediction.interval.T)]

    def steps(errors: NDArray[np.float64], **look: Any) -> Any:
        """Errors at the frontier's memories, each held until the next or the end of the axis."""
        return go.Scatter(
            x=np.append(needed[frontier], end),
            y=np.append(errors, errors[-1]),
            mode="lines",
            hoverinfo="skip",
            **look,
        )

    def points(indices: NDArray[np.intp], name: str, note: str = "", **marker: Any) -> Any:
        return go.Scatter(
            x=needed[indices],
            y=shown[indices],
            mode="markers",
            name=name,
            marker=marker,
            text=[text[index] + note for index in indices],
            hovertemplate=f"%{{text}}<extra>{name}</extra>",
        )

    edge = {"width": 0, "shape": "hv"}
    figure = go.Figure(
        [
            steps(high, line=edge, showlegend=False),
            steps(low, line=edge, fill="tonexty", fillcolor=_BAND, name="90% band"),
            steps(shown[frontier], line={"color": _STAIRCASE, "shape": "hv"}, name="Frontier"),
            points(
                np.flatnonzero(~prediction.measured),
                "Predicted",
                color=GRAY,
                size=6,
                symbol="circle-open",
            ),
            points(np.flatnonzero(prediction.measured), "Measured", color=BLUE, size=9),
            points(
                np.array([recommended.index]),
                "Recommended",
                f"<br>within {RIGHT} of the best allowed: {recommended.probability:.0%}",
                color=RED,
                size=18,
                symbol="circle-open",
                line={"width": 3},
            ),
        ],
        {
            "title": f"Error-{plain(prediction.cost.name.title())} Frontier Plot",
            "xaxis": {
                **_axis(prediction.cost),
                "range": [needed.min() - (end - needed.max()), end],
            },
            "yaxis": {"title": "Test error", **axis},
        },
    )
    if baseline is not None:
        figure.add_scatter(
            x=[needed.min(), end],
            y=[max(baseline.error, floor)] * 2,
            mode="lines",
            line={"color": GRAY, "dash": "dot"},
            name=f"float32, {plain(prediction.cost.format(baseline.memory))}",
            hovertemplate=f"error: {baseline.error:.4f}<extra>float32</extra>",
        )
    cap = prediction.cost.parse(memory_cap)
    if cap < needed.max():
        text_of_cap = f"cap {plain(prediction.cost.format(cap))}"
        figure.add_vline(cap, line={"color": RED, "dash": "dash"}, annotation_text=text_of_cap)
    return figure


def _axis_of_errors(errors: NDArray[np.float64]) -> tuple[dict[str, Any], float]:
    """How the axis of errors is scaled, and the smallest error that it shows."""
    smallest = errors[errors > 0].min(initial=1.0)
    if errors.max() < _SPAN * smallest:
        return {}, 0.0
    floor = smallest / 2
    lowest = int(np.floor(np.log10(floor)))
    ticks = np.outer(10.0 ** np.arange(lowest, 1), (1, 2, 5)).ravel()
    ticks = ticks[(ticks >= floor) & (ticks <= 1)]
    text = [f"{tick:.6g}" for tick in ticks]
    return {"type": "log", "tickvals": ticks, "ticktext": text}, float(floor)


def _axis(cost: Cost) -> dict[str, str]:
    """How the axis of a cost is named and numbered: by prefixes where its unit takes them."""
    name, unit = plain(cost.name.capitalize()), plain(cost.unit)
    if base_unit(cost.unit) == cost.unit:
        return {"title": name, "tickformat": "~s", "ticksuffix": unit}
    return {"title": f"{name} ({unit})"}


def _outcome(prediction: Prediction, interval: NDArray[np.float64], index: int) -> str:
    """Parameters, error and memory of a configuration, one a line."""
    (low, high), cost = interval, prediction.cost
    doubt = "" if prediction.measured[index] else f" (90%: {low:.4f} to {high:.4f})"
    return (
        f"{params_text(prediction.space, index)}<br>error: {prediction.mean[index]:.4f}{doubt}<br>"
        f"{plain(cost.name)}: {plain(cost.format(prediction.memory[index]))}"
    )
