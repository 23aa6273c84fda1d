"""A page of facts about a corpus: what it is, what moves its errors, what it is good for.

    python benchmarks/collect/corpus_facts.py NAME|FILE.csv [--repeats repeats.csv] [--jobs 2]

writes tables, then pictures, then the page NAME.md into results/corpora/NAME/. The page is made of
the tables alone (facts_page.py). Repeats are measurements of some entries with another seed, as
repeat.py makes them: they tell the noise. Tasks of which an entry is missing are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from variance import Noise, repeated

from optuna_peppp import ErrorMatrix
from optuna_peppp.acquisition.strategies import STRATEGIES
from optuna_peppp.corpora.catalog import read_table
from optuna_peppp.corpora.table import CorpusTable
from optuna_peppp.evaluation.leave_one_out import Evaluation

BENCHMARKS: Final = Path(__file__).resolve().parents[1]
# A script that is run finds its own folder only.
sys.path.append(str(BENCHMARKS / "reproduce"))
from common import Script  # noqa: E402
from facts_page import write_page  # noqa: E402
from facts_pictures import draw_singular_values, draw_tau  # noqa: E402
from facts_tables import (  # noqa: E402
    write_frontiers,
    write_singular_values,
    write_tau,
    write_variance,
)

RESULTS: Final = BENCHMARKS / "results" / "corpora"
MEASUREMENTS: Final = (1, 3, 6)
EVALUATED: Final = ("bayesian", "ed-mf")
QUICK_TASKS: Final = 6
LISTED: Final = 20
"""Values of one column that are listed; more are counted."""

_MEASURED: Final = ("task", "error", "memory", "diverged", "seconds")
"""Columns that differ from row to row: they are counted, not listed."""


def complete_tasks(matrix: ErrorMatrix) -> tuple[ErrorMatrix, list[str]]:
    """The tasks of which every error and memory is known, and the names of the others.

    Raises:
        ValueError: Fewer than three are complete.
    """
    complete = ~np.isnan(matrix.errors + matrix.memory).any(axis=1)
    kept = np.flatnonzero(complete)
    if len(kept) < 3:
        raise ValueError(
            f"the corpus must hold at least three tasks with every error and memory known; "
            f"{len(kept)} of {complete.size} are. Measure what is missing with "
            "`optuna-peppp collect`"
        )
    left_out = [matrix.tasks[row] for row in np.flatnonzero(~complete)]
    return rows_of(matrix, kept), left_out


def rows_of(matrix: ErrorMatrix, rows: NDArray[np.intp]) -> ErrorMatrix:
    """Some tasks of a matrix."""
    return replace(
        matrix,
        tasks=tuple(matrix.tasks[row] for row in rows),
        errors=matrix.errors[rows],
        memory=matrix.memory[rows],
        models=tuple(matrix.models[row] for row in rows) if matrix.models else (),
    )


def identity(table: CorpusTable, corpus: ErrorMatrix, left_out: list[str]) -> dict[str, str]:
    """What the corpus is, in words and numbers."""
    facts = {
        "tasks": str(len(corpus.tasks)),
        "tasks left out, as entries are missing": ", ".join(left_out) or "none",
        "configurations": str(len(corpus.space)),
        "configurations that some error tells apart": str(
            np.unique(corpus.errors, axis=1).shape[1]
        ),
        "measurements in the file": str(len(table.rows)),
    }
    for name in table.columns:
        if name not in _MEASURED:
            tuned = corpus.space.choices.get(name)
            values = tuned or sorted({row.fields[name] for row in table.rows})
            facts[name] = (
                ", ".join(map(str, values)) if len(values) <= LISTED else f"{len(values)} different"
            )
    if "diverged" in table.columns:
        facts["diverged"] = str(sum(row.fields["diverged"] == "1" for row in table.rows))
    if "seconds" in table.columns:
        seconds = np.array(
            [float(row.fields["seconds"]) for row in table.rows if row.fields["seconds"]]
        )
        facts["training time"] = (
            f"{seconds.sum() / 3600:.1f} hours in all, {np.median(seconds):.1f} s a training "
            "in the median"
        )
    return facts


def read_noise(table: CorpusTable, corpus: ErrorMatrix, repeats: Path) -> Noise:
    """The noise that a file of repeats tells.

    Raises:
        ValueError, OSError: The file cannot be read or does not fit the corpus.
    """
    return Noise.of(repeated(table, CorpusTable.read(repeats), corpus.space))


def code_of(repeats: Path) -> dict[str, str]:
    """What the repeats were measured with, where repeat.py wrote it."""
    record = repeats.with_suffix(".json")
    if not record.exists():
        return {}
    found = json.loads(record.read_text())
    return {
        "repeats measured with": f"optuna_peppp {found['optuna_peppp']}; torch {found['torch']}; "
        f"{found['processor']}",
        "corpus entries that this code gave again, to the last digit": (
            f"{found['reproduced']} of {found['tried']} tried"
        ),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Computes and writes tables, pictures, page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("corpus", help="a corpus that ships, or a CSV file")
    parser.add_argument("--repeats", type=Path, help="CSV: 50 entries or more with another seed")
    parser.add_argument("--quick", action="store_true", help=f"the first {QUICK_TASKS} tasks")
    parser.add_argument("--jobs", type=int, default=1, help="processes that evaluate")
    parser.add_argument("--output", type=Path, help="folder (default: results/corpora/NAME)")
    arguments = parser.parse_args(argv)
    name = Path(arguments.corpus).stem
    try:
        table = read_table(arguments.corpus)
        corpus, left_out = complete_tasks(ErrorMatrix.from_table(table))
        noise = read_noise(table, corpus, arguments.repeats) if arguments.repeats else None
        if arguments.quick:
            corpus = rows_of(corpus, np.arange(min(QUICK_TASKS, len(corpus.tasks))))
        strategies = {name: STRATEGIES[name] for name in EVALUATED}
        evaluation = Evaluation(corpus, strategies, MEASUREMENTS)
    except (OSError, ValueError) as problem:
        parser.error(str(problem))
    # A quick run leaves the results of a full one alone.
    output = arguments.output or RESULTS / (name + "-quick" * arguments.quick)
    output.mkdir(parents=True, exist_ok=True)
    script = Script(name, corpus, name, None, arguments.quick, output)

    facts = identity(table, corpus, left_out)
    if arguments.repeats:
        facts |= code_of(arguments.repeats)
    script.write_table([{"fact": fact, "value": value} for fact, value in facts.items()])
    write_singular_values(script)
    write_variance(script, noise)
    write_tau(script, [evaluation.name(row) for row in range(len(corpus.tasks))])
    write_frontiers(script)
    script.write_table([score.as_row() for score in evaluation.run(arguments.jobs)], "evaluation")
    draw_singular_values(script)
    draw_tau(script)
    write_page(output, name)
    script.finish(())


if __name__ == "__main__":
    main()
