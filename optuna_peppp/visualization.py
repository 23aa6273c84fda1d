"""Figures of a study, of what it learned from and of how it went, as in ``optuna.visualization``.

Every function returns a plotly figure: show it with ``.show()``, change it with
``.update_layout()``, keep it with ``.write_html()``. plotly is an extra of its own:
``pip install "optuna_peppp[visualization]"``.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optuna_peppp import pareto
from optuna_peppp.prediction import Prediction, validate_memory
from optuna_peppp.quality import REFERENCE, scale
from optuna_peppp.sizes import format_size, parse_size
from optuna_peppp.study import measurements, predict

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from optuna.study import Study

    from optuna_peppp.matrix import ErrorMatrix
    from optuna_peppp.meta import MetaModel
    from optuna_peppp.space import ConfigurationSpace

# Okabe and Ito's palette, which the color-blind can tell apart; lines and symbols differ too.
_BLUE: Final, _RED: Final, _BAND: Final = "#0072B2", "#D55E00", "rgba(86, 180, 233, 0.3)"
_GRAY: Final, _DARK: Final = "#767676", "#333333"
_LINES: Final = (_BLUE, _RED, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES: Final = ("solid", "dash", "dot", "dashdot")
_SCALE: Final = "Cividis"

_MEMORY_AXIS: Final = {"title": "Memory", "tickformat": "~s", "ticksuffix": "B"}
_TICKS: Final = 24
"""The most configurations that an axis names."""

_ROW, _LEAST_HEIGHT, _MOST_HEIGHT = 16, 450, 1600
"""Pixels: of a task's name, and of a figure of tasks."""


def require_plotly() -> Any:
    """The module ``plotly.graph_objects``.

    Raises:
        ImportError: plotly is not installed.
    """
    try:
        import plotly.graph_objects
    except ImportError as problem:
        raise ImportError(
            "figures need plotly, which is not installed; "
            'get it with `pip install "optuna_peppp[visualization]"`'
        ) from problem
    return plotly.graph_objects


def plot_frontier(
    study: Study,
    meta: MetaModel,
    memory: ArrayLike,
    *,
    memory_cap: str | float | None = None,
) -> go.Figure:
    """Plots the error of every configuration against its memory, and the frontier.

    The frontier is a staircase: the lowest error, measured or predicted, for so much memory. In
    the band, at its points, the lowest error that exists lies with probability 90%. A study
    without trials shows what past tasks tell.

    Args:
        study: A study whose first objective is the error, minimized.
        meta: The meta-model, fitted to past tasks.
        memory: Shape (d,), bytes of every configuration of ``meta.space`` on the task.
        memory_cap: The most that the recommended configuration may need, in bytes or as text
            such as ``"275MB"``; drawn where some configuration needs more.

    Raises:
        ImportError: plotly is not installed.
        ValueError: As :func:`~optuna_peppp.predict` and :meth:`Prediction.recommend`.
    """
    go = require_plotly()
    prediction = predict(study, meta, memory)
    recommended = prediction.recommend(memory_cap)
    needed, mean, frontier = prediction.memory, prediction.mean, prediction.frontier
    low, high = prediction.band
    text = _outcomes(prediction)
    chosen = (
        f"{text[recommended.index]}<br>with probability {recommended.probability:.0%} none that "
        "is allowed<br>has an error lower by more than 0.01"
    )

    def steps(errors: NDArray[np.float64], **look: Any) -> Any:
        """Errors at the frontier's memories, held until the next, and the last to the end."""
        return go.Scatter(
            x=np.append(needed[frontier], needed.max()),
            y=np.append(errors, errors[-1]),
            mode="lines",
            hoverinfo="skip",
            **look,
        )

    def points(indices: NDArray[np.intp], name: str, marker: dict[str, Any]) -> Any:
        return go.Scatter(
            x=needed[indices],
            y=mean[indices],
            mode="markers",
            name=name,
            marker=marker,
            text=[text[index] for index in indices],
            hovertemplate=f"%{{text}}<extra>{name}</extra>",
        )

    edge = {"width": 0, "shape": "hv"}
    figure = go.Figure(
        [
            steps(high, line=edge, showlegend=False),
            steps(low, line=edge, fill="tonexty", fillcolor=_BAND, name="90% band"),
            steps(mean[frontier], line={"color": _DARK, "shape": "hv"}, name="Frontier"),
            points(
                np.flatnonzero(~prediction.measured),
                "Predicted",
                {"color": _GRAY, "size": 6, "symbol": "circle-open"},
            ),
            points(
                np.flatnonzero(prediction.measured), "Measured", {"color": _BLUE, "size": 9}
            ),
            go.Scatter(
                x=[recommended.memory],
                y=[recommended.error],
                mode="markers",
                name="Recommended",
                marker={
                    "color": _RED,
                    "size": 18,
                    "symbol": "circle-open",
                    "line": {"width": 3},
                },
                text=[chosen],
                hovertemplate="%{text}<extra>Recommended</extra>",
            ),
        ],
        {
            "title": "Error-Memory Frontier Plot",
            "xaxis": _MEMORY_AXIS,
            "yaxis": {"title": "Test error"},
        },
    )
    if memory_cap is not None and (cap := parse_size(memory_cap)) < needed.max():
        figure.add_vline(
            cap, line={"color": _RED, "dash": "dash"}, annotation_text=f"cap {format_size(cap)}"
        )
    return figure


def plot_error_matrix(matrix: ErrorMatrix) -> go.Figure:
    """Plots the errors of all tasks under all configurations; what was not measured stays blank.

    Raises:
        ImportError: plotly is not installed.
        ValueError: Nothing was measured.
    """
    go = require_plotly()
    if not matrix.observed.any():
        raise ValueError("matrix must hold at least one measured error; got none")
    space = matrix.space
    several = len(set(matrix.models)) > 1
    tasks = [
        _plain(f"{task} ({model})" if several else task)
        for task, model in zip(matrix.tasks, matrix.models or matrix.tasks, strict=True)
    ]
    labels = [
        _plain(" / ".join(map(str, space.params(index).values()))) for index in range(len(space))
    ]
    # A tick where the first name changes, which varies slowest, or where every so often it does.
    values = len(space.choices[space.names[0]])
    stride = len(space) // values * -(-values // _TICKS)
    return go.Figure(
        go.Heatmap(
            z=matrix.errors,
            x=labels,
            y=tasks,
            colorscale=_SCALE,
            colorbar={"title": "Test error"},
            hoverongaps=False,
            hovertemplate="%{y}<br>%{x}<br>error: %{z:.4f}<extra></extra>",
        ),
        {
            "title": "Error Matrix Plot",
            "height": min(max(_LEAST_HEIGHT, 200 + _ROW * len(tasks)), _MOST_HEIGHT),
            "xaxis": {
                "title": _plain(" / ".join(space.names)),
                "type": "category",
                "tick0": 0,
                "dtick": stride,
                "showgrid": False,
            },
            "yaxis": {
                "title": "Task",
                "type": "category",
                "autorange": "reversed",
                "automargin": True,
                "showgrid": False,
            },
        },
    )


def plot_embeddings(meta: MetaModel) -> go.Figure:
    """Plots the first two dimensions of the configurations' embeddings.

    Configurations that lie close together have similar errors on all tasks. Their color is the
    mean error over past tasks, which is also the second axis where the rank is 1.

    Raises:
        ImportError: plotly is not installed.
    """
    go = require_plotly()
    flat = meta.rank == 1
    text = [
        f"{_params(meta.space, index)}<br>mean error: {error:.4f}"
        for index, error in enumerate(meta.mean.tolist())
    ]
    return go.Figure(
        go.Scatter(
            x=meta.embeddings[:, 0],
            y=meta.mean if flat else meta.embeddings[:, 1],
            mode="markers",
            marker={
                "color": meta.mean,
                "colorscale": _SCALE,
                "colorbar": {"title": "Mean error"},
                "size": 9,
                "line": {"width": 0.5, "color": _GRAY},
            },
            text=text,
            hovertemplate="%{text}<extra></extra>",
        ),
        {
            "title": "Configuration Embeddings Plot",
            "xaxis": {"title": "Embedding 1"},
            "yaxis": {"title": "Mean error" if flat else "Embedding 2"},
        },
    )


def plot_regret_history(
    studies: Study | Iterable[Study],
    space: ConfigurationSpace,
    memory: ArrayLike,
    *,
    errors: ArrayLike | None = None,
) -> go.Figure:
    """Plots what the configurations measured so far lack of the best dominated area.

    A line per study: after each measurement, the hypervolume of the best frontier less that of
    the measured configurations, with memory scaled to [0, 1] and reference (1.05, 1). Studies
    of one task whose names differ in a last number only, such as the seeds of a sampler, share
    a color and an entry of the legend.

    Args:
        studies: One or more studies of the same task, the first objective the error, minimized.
        space: The configurations.
        memory: Shape (d,), bytes of every configuration of ``space`` on the task.
        errors: Shape (d,), the true errors in [0, 1]. By default what all the studies measured,
            of every configuration the mean: the best frontier is then that of all measurements.

    Raises:
        ImportError: plotly is not installed.
        ValueError: No study measured anything, ``errors`` is of another shape or not in [0, 1],
            ``memory`` of another shape or not positive, or as
            :func:`~optuna_peppp.study.measurements`.
    """
    go = require_plotly()
    studies = list(studies) if isinstance(studies, Iterable) else [studies]
    scaled = scale(validate_memory(memory, space))
    measured = [measurements(study, space) for study in studies]
    if not any(len(indices) for indices, _ in measured):
        raise ValueError(
            f"studies must hold at least one completed trial; the {len(studies)} given hold none"
        )
    truth = _mean_errors(measured, len(space)) if errors is None else _errors(errors, len(space))
    known = np.flatnonzero(~np.isnan(truth))

    def volume(indices: NDArray[np.intp]) -> float:
        return pareto.hypervolume(np.column_stack((scaled[indices], truth[indices])), REFERENCE)

    best = volume(known)
    groups = _groups([study.study_name for study in studies])
    looks = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    figure = go.Figure()
    for number, (study, (indices, _), group) in enumerate(
        zip(studies, measured, groups, strict=True)
    ):
        look = looks[group]
        counts = np.arange(1, len(indices) + 1)
        figure.add_scatter(
            x=counts,
            y=[best - volume(indices[:count]) for count in counts],
            mode="lines+markers",
            name=_plain(group),
            legendgroup=group,
            showlegend=group not in groups[:number],
            line={
                "color": _LINES[look % len(_LINES)],
                "dash": _DASHES[look // len(_LINES) % len(_DASHES)],
                "shape": "hv",
            },
            marker={"size": 5},
            hovertemplate=f"{_plain(study.study_name)}<br>measurements: %{{x}}<br>"
            "regret: %{y:.4f}<extra></extra>",
        )
    return figure.update_layout(
        title="Hypervolume Regret History Plot",
        showlegend=len(looks) > 1,
        xaxis={"title": "Measurements", "tickformat": "d"},
        yaxis={"title": "Hypervolume regret", "rangemode": "tozero"},
    )


def _params(space: ConfigurationSpace, index: int) -> str:
    """The parameters of a configuration, one a line."""
    lines = (f"{name}: {value}" for name, value in space.params(index).items())
    return "<br>".join(map(_plain, lines))


def _outcomes(prediction: Prediction) -> list[str]:
    """Parameters, error and memory of every configuration, one a line."""
    low, high = prediction.interval
    texts = []
    for index, error in enumerate(prediction.mean.tolist()):
        doubt = "" if prediction.measured[index] else f" (90%: {low[index]:.4f} to {high[index]:.4f})"
        texts.append(
            f"{_params(prediction.space, index)}<br>error: {error:.4f}{doubt}<br>"
            f"memory: {format_size(prediction.memory[index])}"
        )
    return texts


def _plain(text: str) -> str:
    """Text as plotly shows it, whatever markup it resembles."""
    return html.escape(text, quote=False)


def _groups(names: list[str]) -> list[str]:
    """Names without a last number, unless this would make them all the same."""
    groups = [re.sub(r"[\W_]*\d+$", "", name) or name for name in names]
    return groups if len(set(groups)) > 1 else names


def _mean_errors(
    measured: list[tuple[NDArray[np.intp], NDArray[np.float64]]], d: int
) -> NDArray[np.float64]:
    """Shape (d,), the mean error of every configuration; NaN where it was not measured."""
    indices, errors = (np.concatenate(arrays) for arrays in zip(*measured, strict=True))
    counts = np.bincount(indices, minlength=d)
    sums = np.bincount(indices, weights=errors, minlength=d)
    return np.asarray(sums / np.where(counts, counts, np.nan))


def _errors(errors: ArrayLike, d: int) -> NDArray[np.float64]:
    """True errors, checked."""
    array = np.asarray(errors, dtype=np.float64)
    if array.shape != (d,):
        raise ValueError(
            f"errors must have shape ({d},), one entry per configuration of space; "
            f"got {array.shape}"
        )
    bad = np.flatnonzero(~((array >= 0) & (array <= 1)))
    if bad.size:
        raise ValueError(
            "errors must lie in [0, 1], the ratio of misclassified images; "
            f"errors[{bad[0]}] is {array[bad[0]]}"
        )
    return array
