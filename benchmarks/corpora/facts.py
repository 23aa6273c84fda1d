"""A page of facts about a corpus: what it is, what moves its errors, what it is good for.

    python -m benchmarks.corpora.facts NAME|FILE.csv [--repeats repeats.csv] [--jobs 2] [--quick]

writes tables, then pictures, then the page NAME.md into results/corpora/NAME/. The page is made of
the tables alone (facts_page.py). Repeats are measurements of some entries with another seed, as
repeat.py makes them: they tell the noise. Tasks of which an entry is missing are left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.corpora import facts_tables
from benchmarks.corpora.facts_page import write_page
from benchmarks.corpora.variance import Noise, repeated
from benchmarks.harness import script
from benchmarks.harness.script import Results
from benchmarks.harness.tasks import complete_rows
from optuna_peppp import ErrorMatrix
from optuna_peppp.acquisition.strategies import STRATEGIES
from optuna_peppp.corpora.catalog import read_table
from optuna_peppp.corpora.table import CorpusTable
from optuna_peppp.evaluation.leave_one_out import Evaluation

MEASUREMENTS: Final = (1, 3, 6)
EVALUATED: Final = ("bayesian", "ed-mf")
QUICK_TASKS: Final = 6
LISTED: Final = 20
"""Values of one column that are listed; more are counted."""

_MEASURED: Final = ("task", "error", "memory", "diverged", "seconds")
"""Columns that differ from row to row: they are counted, not listed."""


def main(argv: Sequence[str] | None = None) -> None:
    """Computes and writes tables, pictures, page."""
    parser = script.parser(__doc__, f"the first {QUICK_TASKS} tasks")
    parser.add_argument("corpus", help="a corpus that ships, or a CSV file")
    parser.add_argument("--repeats", type=Path, help="CSV: 50 entries or more with another seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes that evaluate")
    options = parser.parse_args(argv)
    name = Path(options.corpus).stem
    try:
        table = read_table(options.corpus)
        corpus, left_out = complete_tasks(ErrorMatrix.from_table(table))
        if options.quick:
            corpus = corpus.rows(range(min(QUICK_TASKS, len(corpus.tasks))))
        facts, noise = identity(table, corpus, left_out), None
        if options.repeats:
            groups = repeated(table, CorpusTable.read(options.repeats), corpus.space)
            noise, facts = Noise.of(groups), facts | code_of(options.repeats)
        strategies = {name: STRATEGIES[name] for name in EVALUATED}
        evaluation = Evaluation(corpus, strategies, MEASUREMENTS)
    except (OSError, ValueError) as problem:
        parser.error(str(problem))
    results = Results(script.folder(options, f"corpora/{name}"), name)
    results.table([{"fact": fact, "value": value} for fact, value in facts.items()])
    facts_tables.write_singular_values(results, corpus.errors)
    facts_tables.write_variance(results, corpus, noise)
    facts_tables.write_tau(results, corpus, list(map(evaluation.name, range(len(corpus.tasks)))))
    facts_tables.write_frontiers(results, corpus)
    results.table([score.as_row() for score in evaluation.run(options.jobs)], "evaluation")
    facts_tables.draw_singular_values(results)
    facts_tables.draw_tau(results)
    write_page(results)
    results.record({"corpus": name, "quick": options.quick})
    print(f"{results.path('md')}: done")


def complete_tasks(matrix: ErrorMatrix) -> tuple[ErrorMatrix, list[str]]:
    """The tasks of which every error and memory is known, and the names of the others.

    Raises:
        ValueError: Fewer than three are complete.
    """
    complete = complete_rows(matrix)
    if len(complete) < 3:
        raise ValueError(
            f"the corpus must hold at least three tasks with every error and memory known; "
            f"{len(complete)} of {len(matrix.tasks)} are. Measure what is missing with "
            "`optuna-peppp collect`"
        )
    left_out = [task for row, task in enumerate(matrix.tasks) if row not in complete]
    return matrix.rows(complete), left_out


def identity(table: CorpusTable, corpus: ErrorMatrix, left_out: list[str]) -> dict[str, str]:
    """What the corpus is, in words and numbers."""
    apart = np.unique(corpus.errors, axis=1).shape[1]
    facts = {
        "tasks": str(len(corpus.tasks)),
        "tasks left out, as entries are missing": ", ".join(left_out) or "none",
        "configurations": str(len(corpus.space)),
        "configurations that some error tells apart": str(apart),
        "measurements in the file": str(len(table.rows)),
    }
    for name in table.columns:
        if name not in _MEASURED:
            tuned = corpus.space.choices.get(name)
            values = tuned or sorted({row.fields[name] for row in table.rows})
            few = len(values) <= LISTED
            facts[name] = ", ".join(map(str, values)) if few else f"{len(values)} different"
    if "diverged" in table.columns:
        facts["diverged"] = str(sum(row.fields["diverged"] == "1" for row in table.rows))
    if "seconds" in table.columns:
        seconds = [float(row.fields["seconds"]) for row in table.rows if row.fields["seconds"]]
        facts["training time"] = (
            f"{sum(seconds) / 3600:.1f} hours in all, {np.median(seconds):.1f} s a training "
            "in the median"
        )
    return facts


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


if __name__ == "__main__":
    main()
