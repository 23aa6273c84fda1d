"""What the posterior gains over the paper's method, at every number of measurements.

Every task of a corpus in turn is the new one (paper, Section 4.2). ``bayesian`` chooses and
predicts by the posterior, ``ed-mf`` and ``qr-mf`` as in the paper, all from the same meta-model.
Reported are the measures of optuna_peppp.evaluation.quality, and of the posterior alone:

- coverage: share of the errors not measured that lie in their 90% interval;
- area: absolute difference of the expected dominated area and the true one; HyperDiff is the same
  for the frontier of the expected errors, which dominates less than is to be expected;
- right, claimed: share of recommendations, without a cap and under each of nine, that are within
  0.01 of the lowest error, and the mean probability that was claimed for it.

    python benchmarks/against_paper.py [--corpus CSV or name] [--rank 3] [--jobs 2] [--quick]

Its rank is chosen by cross-validation; --rank gives one to both methods.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import paired
from paired import Row, standard_error

from optuna_peppp import pareto
from optuna_peppp.acquisition.strategies import STRATEGIES
from optuna_peppp.corpora.catalog import read_corpus
from optuna_peppp.evaluation.leave_one_out import Evaluation
from optuna_peppp.evaluation.quality import CAPS, Quality
from optuna_peppp.evaluation.splits import Split
from optuna_peppp.pareto import REFERENCE, scale
from optuna_peppp.prediction import RIGHT, Prediction

RESULTS: Final = Path(__file__).parent / "results" / "against_paper"
MEASUREMENTS: Final = (1, 2, 3, 4, 6, 8, 12)
QUICK: Final = (1, 3, 6)
RIVALS: Final = ("ed-mf", "qr-mf")


@dataclass(frozen=True)
class Outcome:
    """One measure of one strategy on one task after so many measurements."""

    task: str
    strategy: str
    measurements: int
    measure: str
    value: float


@dataclass(frozen=True)
class Comparison:
    """What is compared."""

    evaluation: Evaluation
    measurements: tuple[int, ...]

    def outcomes(self, row: int) -> list[Outcome]:
        """All strategies on one task."""
        split, task = self.evaluation.split(row), self.evaluation.name(row)
        memory = scale(split.memory)
        found = []
        for name in ("bayesian", *RIVALS):
            predictions = split.predictions(STRATEGIES[name], self.measurements, seed=0)
            for indices, predicted in predictions:
                measured = np.zeros(len(predicted), dtype=np.bool_)
                measured[list(indices)] = True
                measures = asdict(Quality.of(memory, split.errors, predicted, measured))
                if name == "bayesian":
                    measures |= uncertainty(split, list(indices))
                found += [
                    Outcome(task, name, len(indices), measure, value)
                    for measure, value in measures.items()
                ]
        return found


def uncertainty(split: Split, indices: list[int]) -> dict[str, float]:
    """Coverage, area, right and claimed after some measurements of a task."""
    errors, memory = split.errors, split.memory
    prediction = Prediction.from_measurements(split.meta, memory, indices, errors[indices])
    low, high = prediction.interval
    inside = ((low <= errors) & (errors <= high))[~prediction.measured]
    points = np.column_stack((scale(memory), errors))
    expected, _, _ = prediction.dominated_area
    smallest, largest = float(memory.min()), float(memory.max())
    recommended = [
        (prediction.recommend(cap), errors[memory <= cap].min())
        for cap in np.linspace(smallest, largest, CAPS + 1)[1:]
    ]
    return {
        "coverage": float(inside.mean()),
        "area": abs(expected - pareto.hypervolume(points, REFERENCE)),
        "right": float(np.mean([errors[r.index] <= best + RIGHT for r, best in recommended])),
        "claimed": float(np.mean([r.probability for r, _ in recommended])),
    }


def summary(outcomes: Sequence[Outcome]) -> Iterator[Row]:
    """Mean and standard error over tasks; of ``bayesian``, the paired difference to each rival."""
    values: dict[tuple[str, int, str], dict[str, float]] = {}
    for o in outcomes:
        values.setdefault((o.measure, o.measurements, o.strategy), {})[o.task] = o.value
    for (measure, count, strategy), own in values.items():
        mine = np.array(list(own.values()))
        row: Row = {
            "strategy": strategy,
            "measurements": count,
            "measure": measure,
            "tasks": len(own),
            "mean": float(mine.mean()),
            "standard_error": standard_error(mine),
        }
        for rival in RIVALS:
            theirs = values.get((measure, count, rival))
            if strategy == "bayesian" and theirs is not None:
                away = np.array([own[task] - theirs[task] for task in own])
                row[f"less_{rival}"] = float(away.mean())
                row[f"less_{rival}_standard_error"] = standard_error(away)
        yield row


def table(rows: Sequence[Row]) -> str:
    """All measures as Markdown: a row a measure and strategy, a column a number of measurements."""
    counts = list(dict.fromkeys(row["measurements"] for row in rows))
    lines = [f"| | | {' | '.join(map(str, counts))} |", "| --- | --- |" + " --- |" * len(counts)]
    for measure in dict.fromkeys(str(row["measure"]) for row in rows):
        of_it = [row for row in rows if row["measure"] == measure]
        for strategy in dict.fromkeys(str(row["strategy"]) for row in of_it):
            own = [row for row in of_it if row["strategy"] == strategy]
            cells = [f"{row['mean']:.4f}" for row in own]
            lines.append(f"| {measure} | {strategy} | {' | '.join(cells)} |")
        own = [row for row in of_it if "less_ed-mf" in row]
        if own:
            cells = [
                f"{row['less_ed-mf']:+.4f} ± {row['less_ed-mf_standard_error']:.4f}" for row in own
            ]
            lines.append(f"| | bayesian less ed-mf | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Compares the strategies and writes a CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--corpus", default="plain3-cifar100", help="a corpus or a CSV file")
    parser.add_argument("--rank", type=int, help="of the meta-model; by default chosen")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--quick", action="store_true", help="four tasks, up to six measurements")
    options = parser.parse_args()
    matrix = read_corpus(options.corpus)
    rows = np.flatnonzero(matrix.observed.all(axis=1)).tolist()[: 4 if options.quick else None]
    comparison = Comparison(
        Evaluation(matrix, STRATEGIES, rank=options.rank), QUICK if options.quick else MEASUREMENTS
    )
    found = list(summary(paired.run(comparison.outcomes, rows, options.jobs)))
    rank = f"-rank{options.rank}" if options.rank else ""
    stem = Path(options.corpus).stem + rank + ("-quick" if options.quick else "")
    paired.write(RESULTS, stem, found, {"tasks": len(rows)})
    print(table(found))


if __name__ == "__main__":
    main()
