"""The figures of what is learned from: past tasks, and how configurations relate on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from optuna_peppp.visualization.drawing import GRAY, SCALE, params_text, plain, require_plotly

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from optuna_peppp.corpora.matrix import ErrorMatrix
    from optuna_peppp.meta.model import MetaModel

_TICKS: Final = 24
"""The most configurations that an axis names."""

_ROW, _MARGINS = 16, 200
_HEIGHTS: Final = (450, 1600)
"""Pixels; where all tasks have a name that can be read, and no less and no more than so many."""


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
    tasks = list(map(plain, matrix.labels))
    configurations = [
        plain(" / ".join(map(str, space.params(index).values()))) for index in range(len(space))
    ]
    # A tick where the slowest name changes, or every so many changes.
    changes = len(space.choices[space.names[0]])
    low, high = _HEIGHTS
    return go.Figure(
        go.Heatmap(
            z=matrix.errors,
            x=configurations,
            y=tasks,
            colorscale=SCALE,
            colorbar={"title": "Test error"},
            hoverongaps=False,
            hovertemplate="%{y}<br>%{x}<br>error: %{z:.4f}<extra></extra>",
        ),
        {
            "title": "Error Matrix Plot",
            "height": min(max(low, _MARGINS + _ROW * len(tasks)), high),
            "xaxis": {
                "title": plain(" / ".join(space.names)),
                "type": "category",
                "tick0": 0,
                "dtick": len(space) // changes * -(-changes // _TICKS),
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

    The closer two configurations lie, the more alike are their errors on every task. Their color
    is ``meta.mean``, the mean error over past tasks; where the rank is 1 also the second axis.

    Raises:
        ImportError: plotly is not installed.
    """
    go = require_plotly()
    flat = meta.rank == 1
    return go.Figure(
        go.Scatter(
            x=meta.embeddings[:, 0],
            y=meta.mean if flat else meta.embeddings[:, 1],
            mode="markers",
            marker={
                "color": meta.mean,
                "colorscale": SCALE,
                "colorbar": {"title": "Mean error"},
                "size": 9,
                "line": {"width": 0.5, "color": GRAY},
            },
            text=[
                f"{params_text(meta.space, index)}<br>mean error: {error:.4f}"
                for index, error in enumerate(meta.mean)
            ],
            hovertemplate="%{text}<extra></extra>",
        ),
        {
            "title": "Configuration Embeddings Plot",
            "xaxis": {"title": "Embedding 1"},
            "yaxis": {"title": "Mean error" if flat else "Embedding 2"},
        },
    )
