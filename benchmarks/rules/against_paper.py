"""What does the default gain over the paper's method, at every number of measurements?

Every task of a corpus in turn is the new one. ``bayesian`` chooses and predicts by the posterior,
``ed-mf`` and ``qr-mf`` as in the paper, all from the same meta-model. Reported are the measures of
optuna_peppp.evaluation.quality, of the posterior alone also its calibration: means and standard
errors over tasks, and paired differences, in results/against_paper/.

    python -m benchmarks.rules.against_paper [--corpus CSV or name] [--quick]

The paper's embeddings have the rank of its authors' runs, 5; --rank gives another one, to the
posterior, too. With --fraction, that share of the other tasks' entries, drawn uniformly, is all
there is to learn from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.harness import script, tasks
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, markdown
from benchmarks.harness.tasks import Key
from optuna_peppp.acquisition.strategies import STRATEGIES
from optuna_peppp.evaluation.leave_one_out import Evaluation
from optuna_peppp.evaluation.quality import Calibration, Quality
from optuna_peppp.pareto import scale
from optuna_peppp.prediction import Prediction

COLUMNS: Final = ("strategy", "measurements", "measure")
COUNTS: Final = (1, 2, 3, 4, 6, 8, 12)
QUICK_COUNTS: Final = (1, 3, 6)


@dataclass(frozen=True)
class Outcomes:
    """The measures of a task, by strategy and number of measurements."""

    evaluation: Evaluation
    counts: tuple[int, ...]

    def __call__(self, row: int) -> list[tuple[Key, str, float]]:
        """Keys, the task and values."""
        split, task = self.evaluation.split(row), self.evaluation.name(row)
        memory, found = scale(split.memory), list[tuple[Key, str, float]]()
        for name, strategy in self.evaluation.strategies.items():
            for indices, predicted in split.predictions(strategy, self.counts, seed=0):
                measured = np.zeros(len(predicted), dtype=np.bool_)
                measured[list(indices)] = True
                measures = asdict(Quality.of(memory, split.errors, predicted, measured))
                if name == "bayesian":
                    prediction = Prediction.from_measurements(
                        split.meta, split.memory, indices, split.errors[list(indices)]
                    )
                    measures |= asdict(Calibration.of(prediction, split.errors))
                found += [((name, len(indices), m), task, v) for m, v in measures.items()]
        return found


def rivals(key: Key) -> Iterable[tuple[str, Key]]:
    """What is subtracted: from ``bayesian``, both of the paper's."""
    strategy, *rest = key
    if strategy == "bayesian":
        yield from ((f"less_{rival}", (rival, *rest)) for rival in ("ed-mf", "qr-mf"))


def main(argv: Sequence[str] | None = None) -> None:
    """Compares, writes a CSV, prints tables."""
    parser = script.parser(__doc__, "four tasks, up to six measurements")
    tasks.add_corpus(parser)
    parser.add_argument("--fraction", type=float, help="of the entries to learn from")
    parser.add_argument("--rank", type=int, help="of the meta-model")
    options = parser.parse_args(argv)
    matrix = tasks.corpus(parser, options.corpus)
    chosen = {name: STRATEGIES[name] for name in ("bayesian", "ed-mf", "qr-mf")}
    evaluation = Evaluation(matrix, chosen, fraction=options.fraction, rank=options.rank)
    rows = tasks.complete_rows(matrix)[: 4 if options.quick else None]
    outcomes = Outcomes(evaluation, QUICK_COUNTS if options.quick else COUNTS)
    values: dict[Key, dict[str, float]] = {}
    for key, task, value in tasks.over_tasks(outcomes, rows, options.jobs):
        values.setdefault(key, {})[task] = value
    found = [
        {**dict(zip(COLUMNS, key, strict=True)), **row} for key, row in tasks.paired(values, rivals)
    ]
    stem = Path(options.corpus).stem
    stem += f"-{100 * options.fraction:g}percent" if options.fraction else ""
    stem += f"-rank{options.rank}" if options.rank else ""
    results = Results(script.folder(options, "against_paper"), stem)
    results.table(found)
    results.record({"corpus": stem, "tasks": len(rows), "seed": 0})
    print(table(found))


def table(rows: Sequence[Row]) -> str:
    """All measures as Markdown: a line a strategy and its differences, a column a count."""

    def line(row: Row) -> tuple[str, str]:
        return str(row["measure"]), str(row["strategy"])

    found = sorted(rows, key=line)
    lines = [["", "", *dict.fromkeys(str(row["measurements"]) for row in rows)]]
    for names, group in groupby(found, line):
        own = list(group)
        lines.append([*names, *(f"{row['mean']:.4f}" for row in own)])
        for name in [name for name in own[0] if name.startswith("less")]:
            if not name.endswith("_standard_error"):
                cells = [f"{r[name]:+.4f} ± {r[f'{name}_standard_error']:.4f}" for r in own]
                lines.append(["", name.replace("_", " "), *cells])
    return markdown(lines)


if __name__ == "__main__":
    main()
