"""``recommend``: what a study that ``tune`` stored comes to."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from optuna_peppp.cli.app import app
from optuna_peppp.cli.checks import check_size
from optuna_peppp.cli.conclusion import report, write_report
from optuna_peppp.cli.options import Json, MemoryCap, Report, StudyName, in_a_folder
from optuna_peppp.cli.output import clear_errors, clear_warnings, echo

if TYPE_CHECKING:
    from optuna_peppp.configurations.layers import Layers
    from optuna_peppp.configurations.recipe import Recipe
    from optuna_peppp.configurations.space import Value
    from optuna_peppp.studies.tuning import Tuning


@app.command(
    epilog="Example: `optuna-peppp recommend --storage sqlite:///tune.db --memory-cap 2.8MB`"
)
def recommend(
    storage: Annotated[str, typer.Option(help="Where `tune` kept the study.")],
    study_name: StudyName = "tune",
    memory_cap: MemoryCap = None,
    json_file: Json = None,
    page: Report = None,
    export: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            callback=in_a_folder,
            metavar="TOOL|FILE",
            help="Print what torchao, transformer-engine or bitsandbytes need to train what is "
            "recommended; or write the format of every tensor of an assignment here, as JSON.",
        ),
    ] = None,
) -> None:
    """Print the frontier and the recommendation of a study that `tune` stored. Trains nothing."""
    with clear_errors(), clear_warnings():
        check_size("--memory-cap", memory_cap)

        from optuna_peppp.files import replacing
        from optuna_peppp.report.tools import TOOLS, code
        from optuna_peppp.studies.tuning import Tuning

        tuning = Tuning.load(storage, study_name)
        prediction = tuning.predict()
        params = prediction.recommend(memory_cap).params
        lines = None
        if str(export) in TOOLS:
            lines = code(str(export), *_training(tuning, params))  # type: ignore[arg-type]
        layers = _layers(tuning, params, export is not None and lines is None)

        def write_export() -> None:
            if lines is not None:
                echo(lines)
            elif export is not None and layers is not None:
                with replacing(export) as temporary:
                    temporary.write_text(layers.as_json(), encoding="utf-8")

        told = tuning.settings()
        page_of = partial(write_report, page, tuning, prediction, told, memory_cap, layers)
        more = write_export, page_of
        report(prediction, tuning.baseline, memory_cap, json_file, *more, layers=layers)


def _training(tuning: Tuning, params: dict[str, Value]) -> tuple[Recipe, dict[str, Any]]:
    """The recipe of a configuration, and the settings of its training."""
    from optuna_peppp.configurations.hardware import recipe_of

    settings = tuning.settings()
    return recipe_of(params, settings["rounding"], settings["sites"]), {**settings, **params}


def _layers(tuning: Tuning, params: dict[str, Value], wanted: bool) -> Layers | None:
    """The layers of a configuration, where it is a precision assignment.

    Args:
        tuning: The study.
        params: The configuration.
        wanted: Whether there must be some.

    Raises:
        ValueError, OSError: There must be, and there are none, or the data set is not here.
    """
    if "format_low" not in params:
        if wanted:
            raise ValueError(
                "--export writes precision assignments, and this study tunes "
                f"{', '.join(params)}; `tune --space assignments` tunes some"
            )
        return None
    from optuna_peppp.lowprecision import Experiment
    from optuna_peppp.lowprecision.training.layers import layers_of

    try:
        return layers_of(Experiment.from_settings(tuning.settings()), params)
    except (ValueError, OSError) as problem:
        if wanted:
            raise
        echo(f"Which layers are low is not told, as the network is not here: {problem}", err=True)
        return None
