"""``evaluate``: what strategies would have achieved on the tasks of a corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from optuna_peppp.choices import Strategy
from optuna_peppp.cli.app import app
from optuna_peppp.cli.options import (
    Fraction,
    Rank,
    SchemeOption,
    choice,
    in_a_folder,
    integer,
    listed,
)
from optuna_peppp.cli.output import INTERRUPTED, clear_errors, echo
from optuna_peppp.corpora.csvfile import write_lines
from optuna_peppp.numerals import parse_integer
from optuna_peppp.text import quoted

if TYPE_CHECKING:
    from optuna_peppp.evaluation.leave_one_out import Score


@app.command(
    epilog="Examples: `optuna-peppp evaluate` | `optuna-peppp evaluate --corpus mine.csv "
    "--strategy ed-mf --measurements 1,3,6 --memory-cap 816MiB --fraction 0.2 --output scores.csv`"
)
def evaluate(
    corpus: Annotated[
        str, typer.Option(help="The past tasks: a corpus that ships, or a CSV file.")
    ] = "plain3-cifar100",
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            parser=choice("strategy", get_args(Strategy)),
            metavar=listed(get_args(Strategy)),
            help="A strategy to evaluate; give several.",
            show_default="all",
        ),
    ] = None,
    measurements: Annotated[
        str, typer.Option(help="Numbers of measurements to judge after.")
    ] = "1,2,3,6,12",
    memory_cap: Annotated[
        str | None,
        typer.Option(help="Leave out configurations that need more, such as 816MiB."),
    ] = None,
    measurement_cap: Annotated[
        str | None,
        typer.Option(help="Do not measure, but judge, configurations that need more."),
    ] = None,
    fraction: Fraction = None,
    scheme: SchemeOption = "uniform",
    rank: Rank = None,
    seed: Annotated[
        int,
        typer.Option(
            parser=integer(0),
            metavar="INTEGER",
            help="Seed of the sampled fraction and of random strategies.",
        ),
    ] = 0,
    jobs: Annotated[
        int, typer.Option(parser=integer(1), metavar="INTEGER", help="Processes; tasks are shared.")
    ] = 1,
    output: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            callback=in_a_folder,
            help="Write a row a task, strategy and number of measurements here, as CSV.",
        ),
    ] = None,
) -> None:
    """Evaluate strategies on a corpus by leaving out each task in turn. Trains nothing.

    The meta-model learns from all other tasks, or from a sampled --fraction of their entries; the
    strategy measures configurations of the task left out, answered from the corpus; the rest is
    predicted and compared with the truth. Printed are means and standard errors over tasks, lower
    is better. Memory is scaled to [0, 1] within a task; hypervolumes have the reference point
    (memory 1.05, error 1).

    convergence: mean distance of the predicted frontier's points to the nearest true one.

    hyperdiff: difference of the hypervolumes of the predicted and the true frontier.

    hypervolume_regret: the true hypervolume less that of the predicted frontier's configurations
    at their true errors.

    relative_error: norm of predicted less true errors, by the norm of the true ones.

    recommendation_regret: true error of the recommended configuration less the lowest one, mean
    over ten memory caps.

    relative_memory: memory of all measurements by that of measuring everything.
    """
    with clear_errors():
        from optuna_peppp.acquisition.strategies import STRATEGIES
        from optuna_peppp.corpora.catalog import read_corpus
        from optuna_peppp.evaluation.leave_one_out import Evaluation

        names = strategy or get_args(Strategy)
        evaluation = Evaluation(
            read_corpus(corpus),
            {name: STRATEGIES[name] for name in names},
            measurements=_counts(measurements),
            memory_cap=memory_cap,
            measurement_cap=measurement_cap,
            fraction=fraction,
            scheme=scheme,
            rank=rank,
            seed=seed,
        )
        scores: list[Score] = []
        try:
            scores.extend(evaluation.run(jobs))
        except KeyboardInterrupt:
            echo("Interrupted. The tasks left out so far:", err=True)
            _report(scores, output)
            raise typer.Exit(INTERRUPTED) from None
        _report(scores, output)


def _counts(text: str) -> list[int]:
    """Numbers separated by commas."""
    try:
        counts = [parse_integer(part.strip()) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise ValueError(f"measurements must be numbers from 1, such as 1,3,6; got {quoted(text)}")
    return counts


def _report(scores: Sequence[Score], output: Path | None) -> None:
    """Prints means and standard errors over tasks, and writes the scores.

    A file that cannot be written, or nobody who reads what is printed, does not keep the other
    from being done.
    """
    if not scores:
        return
    rows = [score.as_row() for score in scores]
    try:
        echo(_table(rows))
    finally:
        if output is not None:
            write_lines(output, list(rows[0]), (list(row.values()) for row in rows))


def _table(rows: Sequence[Mapping[str, str | int | float]]) -> str:
    """Every measure by strategy and number of measurements."""
    import numpy as np

    tasks, strategies, counts = (
        list(dict.fromkeys(row[name] for row in rows))
        for name in ("task", "strategy", "measurements")
    )
    lines = [f"Mean ± standard error over {len(tasks)} tasks, by number of measurements"]
    for measure in list(rows[0])[4:]:
        lines += ["", f"{measure:<22}" + "".join(f"{count:<17}" for count in counts).rstrip()]
        for strategy in strategies:
            cells = []
            for count in counts:
                values = np.array(
                    [
                        row[measure]
                        for row in rows
                        if (row["strategy"], row["measurements"]) == (strategy, count)
                    ],
                    dtype=np.float64,
                )
                # One task has no scatter to tell of.
                error = (
                    f" ± {values.std(ddof=1) / np.sqrt(len(values)):.4f}" if len(values) > 1 else ""
                )
                cells.append(f"{values.mean():.4f}{error}")
            lines.append(f"  {strategy:<20}" + "  ".join(f"{cell:<15}" for cell in cells).rstrip())
    return "\n".join(lines)
