"""A tuned task as one page of HTML, for a browser that need not be online."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.files import replacing
from optuna_peppp.prediction import RIGHT, Prediction
from optuna_peppp.report.text import recommended_as_text
from optuna_peppp.sizes import format_size
from optuna_peppp.studies.results import predict
from optuna_peppp.visualization.drawing import require_plotly
from optuna_peppp.visualization.frontier import plot_frontier
from optuna_peppp.visualization.learned import plot_embeddings, plot_error_matrix
from optuna_peppp.visualization.regret import plot_regret_history

if TYPE_CHECKING:
    from optuna.study import Study

    from optuna_peppp.meta.model import MetaModel

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }
h2 { margin-top: 2.5rem; }
.recommended { border-left: 0.3rem solid #d55e00; background: #fdf3ec; padding: 0.5rem 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: 0.2rem 1.2rem 0.2rem 0; border-bottom: 1px solid #ddd; text-align: left; }
tr.chosen td { font-weight: bold; }
"""


def as_page(
    study: Study,
    meta: MetaModel,
    memory: NDArray[np.float64],
    *,
    title: str,
    settings: Mapping[str, object],
    memory_cap: str | None = None,
) -> str:
    """Recommendation, measurements, frontier and what was learned from, in text and figures.

    The page holds plotly.js, about 5 MB, and loads nothing.

    Args:
        study: A study that completed a trial, the error its first objective.
        meta: The meta-model that guided it.
        memory: Shape (d,), bytes of every configuration of ``meta.space`` on the task.
        title: What was tuned.
        settings: What the measurements share; None is left out, and what was tuned.
        memory_cap: The most that the recommended configuration may need, as its user wrote it.

    Raises:
        ImportError: plotly is not installed.
        ValueError: The study measured nothing, or as :func:`~optuna_peppp.predict` and
            :meth:`Prediction.recommend`.
    """
    require_plotly()
    from plotly.offline import get_plotlyjs

    prediction = predict(study, meta, memory)
    recommendation = prediction.recommend(memory_cap)
    by_memory = np.argsort(prediction.memory, kind="stable")
    measured = by_memory[prediction.measured[by_memory]].tolist()
    shared = {
        name.replace("_", " "): value
        for name, value in settings.items()
        if value is not None and name not in meta.space.names
    }
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="recommended">{html.escape(recommended_as_text(recommendation, memory_cap))}. '
        f"With probability {recommendation.probability:.0%} no configuration that is allowed has "
        f"an error lower by more than {RIGHT}.</p>",
        "<h2>Frontier</h2>",
        _figure("frontier", plot_frontier(study, meta, memory, memory_cap=memory_cap)),
        _configurations(prediction, prediction.frontier.tolist(), recommendation.index),
        f"<h2>Measured: {len(measured)} of {len(meta.space)} configurations</h2>",
        _configurations(prediction, measured, recommendation.index),
        "<h2>Settings</h2>",
        _table(("setting", "value"), (((name, value), "") for name, value in shared.items())),
        "<h2>Progress</h2>",
        "<p>By how much the area that the measured configurations dominate was below that which "
        "they dominate now; memory is scaled to [0, 1].</p>",
        _figure("regret", plot_regret_history(study, meta.space, memory)),
        *_past(meta),
        "<h2>Configurations</h2>",
        "<p>The closer two configurations lie, the more alike are their errors.</p>",
        _figure("embeddings", plot_embeddings(meta)),
    ]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            f"<script>{get_plotlyjs()}</script></head>",
            "<body>",
            *body,
            "</body></html>\n",
        ]
    )


def write_page(path: Path, page: str) -> None:
    """Writes a page. The file appears whole or not at all."""
    with replacing(path) as temporary:
        # A name of bytes that are no text has surrogates, which cannot be encoded.
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def _figure(name: str, figure: Any) -> str:
    """A figure for a page that holds plotly.js already and says what the figure shows."""
    figure.update_layout(title=None, template="plotly_white", margin={"t": 40})
    content: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        default_height="460px",
        # Without plotly's buttons that lead to its servers.
        config={"displaylogo": False, "showSendToCloud": False},
    )
    return content


def _configurations(prediction: Prediction, indices: Iterable[int], chosen: int) -> str:
    """A table with a row per configuration, the chosen one marked."""
    rows = []
    for index in indices:
        doubt = "" if prediction.measured[index] else f" ± {prediction.std[index]:.4f} predicted"
        cells = (
            *prediction.space.params(index).values(),
            format_size(prediction.memory[index]),
            f"{prediction.mean[index]:.4f}{doubt}",
        )
        rows.append((cells, "chosen" if index == chosen else ""))
    return _table((*prediction.space.names, "memory", "error"), rows)


def _table(header: Iterable[object], rows: Iterable[tuple[Iterable[object], str]]) -> str:
    """A table of rows with their classes."""

    def row(kind: str, cells: Iterable[object]) -> str:
        return "".join(f"<{kind}>{html.escape(str(cell))}</{kind}>" for cell in cells)

    lines = (
        f'<tr class="{name}">{row("td", cells)}</tr>' if name else f"<tr>{row('td', cells)}</tr>"
        for cells, name in rows
    )
    head = f"<thead><tr>{row('th', header)}</tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'


def _past(meta: MetaModel) -> list[str]:
    """What the meta-model learned from, if anything; tasks are numbered where two have one name."""
    tasks = meta.tasks
    if not tasks:
        return []
    if len(set(tasks)) < len(tasks):
        tasks = tuple(f"{task} #{number}" for number, task in enumerate(tasks, start=1))
    matrix = ErrorMatrix(meta.space, tasks, meta.errors, np.full(meta.errors.shape, np.nan))
    return [
        f"<h2>Learned from {len(tasks)} past tasks</h2>",
        "<p>Their errors, completed where they were not measured.</p>",
        _figure("errors", plot_error_matrix(matrix)),
    ]
