"""A tuned task as one page of HTML, for a browser that need not be online."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optuna_peppp.configurations.layers import Layers
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.files import replacing
from optuna_peppp.prediction import RIGHT, Prediction
from optuna_peppp.report.advice import advice
from optuna_peppp.report.text import recommended_as_text, saved_as_text
from optuna_peppp.studies.baseline import Baseline
from optuna_peppp.visualization.drawing import require_plotly
from optuna_peppp.visualization.frontier import draw
from optuna_peppp.visualization.learned import plot_embeddings, plot_error_matrix
from optuna_peppp.visualization.regret import plot_regret_history

if TYPE_CHECKING:
    from optuna.study import Study

    from optuna_peppp.meta.model import MetaModel


def as_page(
    study: Study,
    meta: MetaModel,
    prediction: Prediction,
    *,
    title: str,
    settings: Mapping[str, object],
    memory_cap: str | None = None,
    layers: Layers | None = None,
) -> str:
    """Recommendation, measurements, frontier and what was learned from, in text and figures.

    The page (``page.html.jinja``) holds plotly.js, about 5 MB, and loads nothing.

    Args:
        study: A study that completed a trial, the error its first objective.
        meta: The meta-model that guided it.
        prediction: What the study tells of all configurations.
        title: What was tuned.
        settings: What the measurements share; None is left out, and what was tuned.
        memory_cap: The most that the recommended configuration may need, as its user wrote it.
        layers: Those of the recommended configuration, where it is a precision assignment.

    Raises:
        ImportError: plotly or Jinja is not installed.
        ValueError: The study measured nothing, or as :meth:`Prediction.recommend`.
    """
    require_plotly()
    from jinja2 import Environment
    from plotly.offline import get_plotlyjs

    recommendation, baseline = prediction.recommend(memory_cap), Baseline.of(study)
    fixed = {name: values[0] for name, values in prediction.space.choices.items()}
    by_memory = np.argsort(prediction.memory, kind="stable")
    measured = by_memory[prediction.measured[by_memory]].tolist()
    figures = {
        "frontier": draw(prediction, memory_cap, baseline),
        "regret": plot_regret_history(study, prediction.space, prediction.cost),
        "embeddings": plot_embeddings(meta),
    }
    if meta.tasks:
        figures["errors"] = plot_error_matrix(_past(meta))
    template = resources.files("optuna_peppp.report").joinpath("page.html.jinja")
    page = Environment(autoescape=True, keep_trailing_newline=True).from_string(
        template.read_text(encoding="utf-8")
    )
    return page.render(
        title=title,
        plotly=get_plotlyjs(),
        recommended=recommended_as_text(prediction.cost, recommendation, memory_cap),
        probability=recommendation.probability,
        right=RIGHT,
        names=_varied(prediction.space),
        cost=prediction.cost.name,
        frontier=_rows(prediction, prediction.frontier.tolist(), recommendation.index),
        measured=_rows(prediction, measured, recommendation.index),
        size=len(prediction.space),
        settings={
            name.replace("_", " "): value
            for name, value in {**fixed, **settings}.items()
            if value is not None and name not in _varied(prediction.space)
        },
        tasks=len(meta.tasks),
        layers=layers,
        saved=None if baseline is None else saved_as_text(recommendation, baseline),
        advice=advice(prediction, recommendation, memory_cap),
        figures={name: _embedded(name, figure) for name, figure in figures.items()},
    )


def write_page(path: Path, page: str) -> None:
    """Writes a page. The file appears whole or not at all."""
    with replacing(path) as temporary:
        # A name of bytes that are no text has surrogates, which cannot be encoded.
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def _embedded(name: str, figure: Any) -> str:
    """A figure for a page that holds plotly.js already and says what the figure shows."""
    # The legend below, so that a narrow page leaves the figure its width.
    legend = {"orientation": "h", "x": 0, "y": -0.25, "yanchor": "top"}
    margin = {"t": 40, "r": 10}
    figure.update_layout(title=None, template="plotly_white", margin=margin, legend=legend)
    content: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        default_height="460px",
        # Without plotly's buttons that lead to its servers.
        config={"displaylogo": False, "showSendToCloud": False},
    )
    return content


def _rows(prediction: Prediction, indices: Iterable[int], chosen: int) -> list[dict[str, Any]]:
    """The cells of configurations, the chosen one marked."""
    rows = []
    for index in indices:
        doubt = "" if prediction.measured[index] else f" ± {prediction.std[index]:.4f} predicted"
        params = prediction.space.params(index)
        cells = [
            *(params[name] for name in _varied(prediction.space)),
            prediction.cost.format(prediction.memory[index]),
            f"{prediction.mean[index]:.4f}{doubt}",
        ]
        rows.append({"cells": cells, "chosen": index == chosen})
    return rows


def _varied(space: ConfigurationSpace) -> list[str]:
    """The names that have choices; all others are settings."""
    return [name for name, values in space.choices.items() if len(values) > 1]


def _past(meta: MetaModel) -> ErrorMatrix:
    """What the meta-model learned from; tasks are numbered where two have one name."""
    tasks = meta.tasks
    if len(set(tasks)) < len(tasks):
        tasks = tuple(f"{task} #{number}" for number, task in enumerate(tasks, start=1))
    return ErrorMatrix(meta.space, tasks, meta.errors, np.full(meta.errors.shape, np.nan))
