"""What a tuned study comes to: printed, written, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna_peppp.cli.output import show

if TYPE_CHECKING:
    from optuna_peppp.configurations.layers import Layers
    from optuna_peppp.prediction import Prediction
    from optuna_peppp.studies.baseline import Baseline
    from optuna_peppp.studies.tuning import Tuning


def next_step(prediction: Prediction, storage: str | None, study_name: str) -> str:
    """What to type next."""
    from optuna_peppp.studies.credentials import shown

    cap = _cap(prediction)
    if storage is None:
        return (
            f"Next: add --storage tune.journal to keep the measurements, --memory-cap {cap}\n"
            "to stay within it, --report page.html to draw the frontier."
        )
    name = "" if study_name == "tune" else f" --study-name {shlex.quote(study_name)}"
    return (
        f"Next: optuna-peppp recommend --storage {shlex.quote(shown(storage))}{name} "
        f"--memory-cap {cap}"
    )


def _cap(prediction: Prediction) -> str:
    """A cap that leaves out the recommendation, where the frontier goes on below it."""
    below = prediction.memory[prediction.frontier]
    below = below[below <= prediction.recommend().memory][-2:]
    return prediction.cost.format(float(below.mean())).replace(" ", "")


def write_report(
    page: Path | None,
    tuning: Tuning,
    prediction: Prediction,
    settings: Mapping[str, Any],
    memory_cap: str | None,
    layers: Layers | None,
) -> None:
    """Writes the page, if it was asked for and there is something to show."""
    if page is None or not prediction.measured.any():
        return
    from optuna_peppp.report.page import as_page, write_page

    content = as_page(
        tuning.study,
        tuning.meta,
        prediction,
        title=f"{settings['network']} on {settings['data']}: error and memory",
        settings={**settings, "memory_cap": memory_cap},
        memory_cap=memory_cap,
        layers=layers,
    )
    write_page(page, content)


def report(
    prediction: Prediction,
    baseline: Baseline | None,
    memory_cap: str | None,
    json_file: Path | None,
    *more: Callable[[], None],
    layers: Layers | None = None,
) -> None:
    """Prints the prediction and the recommendation, then writes them as JSON.

    Args:
        prediction: The prediction.
        baseline: The same training in float32, where it was measured.
        memory_cap: For the recommendation.
        json_file: The file, written whole or not at all, or None.
        more: What writes further files; one that cannot be written keeps none from the others.
        layers: Of the recommendation, where it is a precision assignment.
    """
    from optuna_peppp.files import replacing
    from optuna_peppp.report.text import as_json, as_text

    recommendation = prediction.recommend(memory_cap)
    show(as_text(prediction, recommendation, memory_cap, baseline, layers))

    def write() -> None:
        if json_file is not None:
            with replacing(json_file) as temporary:
                temporary.write_text(
                    as_json(prediction, recommendation, baseline), encoding="utf-8"
                )

    failures = []
    for step in (write, *more):
        try:
            step()
        except OSError as problem:
            failures.append(problem)
    if failures:
        raise failures[0]
