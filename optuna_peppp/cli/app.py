"""The application: its name, its help, its version."""

from __future__ import annotations

from typing import Annotated

import typer

import optuna_peppp

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"optuna-peppp {optuna_peppp.__version__}")
        raise typer.Exit


@app.callback(
    help="Pick the perfect precision: find the error-memory frontier of low-precision training "
    "with a handful of trainings."
)
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options of the application itself."""
