"""``fit`` and ``corpus``: what was measured before, gathered and learned from."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optuna_peppp.cli.app import app
from optuna_peppp.cli.options import Rank, in_a_folder
from optuna_peppp.cli.output import clear_errors, echo
from optuna_peppp.text import printable

if TYPE_CHECKING:
    from optuna_peppp.configurations.space import ConfigurationSpace
    from optuna_peppp.corpora.matrix import ErrorMatrix

_CORPUS = "A CSV file, or the name of a corpus that ships."

corpus_app = typer.Typer(help="Look at corpora, and merge them.", no_args_is_help=True)
app.add_typer(corpus_app, name="corpus")


@app.command(
    epilog="Examples: `optuna-peppp fit --storage sqlite:///tune.db --output learned.npz` | "
    "`optuna-peppp fit --corpus plain3-cifar100 --corpus mine.csv --output learned.npz`"
)
def fit(
    output: Annotated[
        Path,
        typer.Option(dir_okay=False, callback=in_a_folder, help="The file for the meta-model."),
    ],
    storage: Annotated[
        str | None,
        typer.Option(
            help="Learn from the studies kept here, a task each: a database URL or a journal file."
        ),
    ] = None,
    study_prefix: Annotated[
        str, typer.Option(help="Only from studies whose names start with this.", show_default="all")
    ] = "",
    corpus: Annotated[
        list[str] | None, typer.Option(help=f"Learn from a corpus too; give several. {_CORPUS}")
    ] = None,
    rank: Rank = None,
) -> None:
    """Learn from past studies and corpora, for `tune --meta`. Trains nothing.

    One study is enough, and a few trials of each: what was never measured is guessed from what
    was, and named. Of a study count the completed trials. Studies that tune other choices than
    the corpora, or than most studies, are left out and named.
    """
    with clear_errors():
        from optuna_peppp.corpora.catalog import read_corpus
        from optuna_peppp.corpora.matrix import stack
        from optuna_peppp.meta.model import MetaModel
        from optuna_peppp.report.text import fit_as_text

        if study_prefix and storage is None:
            raise ValueError("--study-prefix chooses studies of --storage; give that too")
        sources = [read_corpus(name) for name in corpus or ()]
        if storage is not None:
            sources.append(_studies(storage, study_prefix, sources[0].space if sources else None))
        if not sources:
            raise ValueError("there is nothing to learn from; give --storage, --corpus or both")
        matrix = stack(sources)
        meta = MetaModel.fit(matrix, rank=rank)
        echo(fit_as_text(meta, matrix))
        meta.save(output)
        echo(f"Use it with: optuna-peppp tune --meta {output}")


@corpus_app.command(epilog="Example: `optuna-peppp corpus info plain3-cifar100`")
def info(corpus: Annotated[str, typer.Argument(help=_CORPUS)]) -> None:
    """Print what a corpus holds, how it repeats, and what to measure next."""
    with clear_errors():
        from optuna_peppp.corpora.catalog import read_table
        from optuna_peppp.report.text import corpus_as_text

        echo(corpus_as_text(read_table(corpus)))


@corpus_app.command(
    epilog="Example: `optuna-peppp corpus merge monday.csv tuesday.csv --output both.csv`"
)
def merge(
    corpus: Annotated[list[str], typer.Argument(help=f"What to merge. {_CORPUS}")],
    output: Annotated[
        Path, typer.Option(dir_okay=False, callback=in_a_folder, help="The CSV file to write.")
    ],
) -> None:
    """Put the measurements of several corpora into one file.

    Repeats stay rows of their own, equal rows are kept once. What one corpus held fixed and
    another at another value, such as a learning rate, is tuned in the result.
    """
    with clear_errors():
        from optuna_peppp.corpora.catalog import read_table
        from optuna_peppp.corpora.matrix import ErrorMatrix
        from optuna_peppp.corpora.table import CorpusTable

        tables = [read_table(name) for name in corpus]
        if output.exists() and any(output.samefile(table.rows[0].path) for table in tables):
            raise ValueError(f"{output} is one of the files to merge; choose another output file")
        merged = CorpusTable.merged(tables)
        matrix = ErrorMatrix.from_table(merged)
        merged.write(output)
        echo(
            f"{output}: {len(merged.rows)} measurements of {len(matrix.tasks)} tasks and "
            f"{len(matrix.space)} configurations"
        )


def _studies(storage: str, prefix: str, space: ConfigurationSpace | None) -> ErrorMatrix:
    """The error matrix of stored studies; those left out are told on standard error."""
    from optuna_peppp.studies.results import error_matrix_from_studies, space_of
    from optuna_peppp.studies.storage import load_studies

    studies = load_studies(storage, prefix)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            return error_matrix_from_studies(studies, space or space_of(studies))
        finally:
            for warning in caught:
                echo(f"Warning: {printable(str(warning.message))}", err=True)
