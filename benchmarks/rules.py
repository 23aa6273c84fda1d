"""Which rule chooses best? What ``bayesian`` does, beside what it might do instead.

Every task of a corpus in turn is the new one. All rules see the same posterior and differ in what
they measure next only:

- "no cap": every configuration may be measured. Judged is the hypervolume regret of what was
  measured (at the errors as measured, and at their signal: the posterior mean given the whole row,
  which has no noise), and the prediction by convergence, HyperDiff, relative error and the regret
  of the predicted frontier (optuna_peppp.evaluation.quality).
- "cap": configurations above a measurement cap may not be measured, but count. Judged is the
  relative error on those alone, and the memory that the measurements took.

    python benchmarks/rules.py [--corpus CSV or name] [--cap 816MiB] [--fraction 0.2] [--quick]

Without --cap, half of the configurations are above it: the cap is each task's median memory. With
--fraction, that share of the other tasks' entries, drawn uniformly, is all there is to learn from.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import paired
from numpy.typing import NDArray
from paired import Row, standard_error

from optuna_peppp import pareto
from optuna_peppp.acquisition import improvement
from optuna_peppp.acquisition.strategies import (
    PAPER,
    STRATEGIES,
    Progress,
    Strategy,
    posterior_mean,
)
from optuna_peppp.corpora.catalog import read_corpus
from optuna_peppp.evaluation.leave_one_out import Evaluation
from optuna_peppp.evaluation.quality import Quality
from optuna_peppp.evaluation.splits import Split
from optuna_peppp.meta.posterior import Moments
from optuna_peppp.pareto import REFERENCE, scale
from optuna_peppp.sizes import parse_size

RESULTS: Final = Path(__file__).parent / "results" / "rules"
MEASUREMENTS: Final = (1, 2, 3, 4, 6, 8, 10, 12, 15, 20, 30)
QUICK: Final = (1, 3, 6)

Score = Callable[[Moments, Progress], NDArray[np.float64]]
"""What measuring every configuration is worth, given the posterior."""


def _improvement(moments: Moments, progress: Progress) -> NDArray[np.float64]:
    """Expected hypervolume improvement over what was measured."""
    where = list(progress.indices)
    return improvement.expected_hypervolume_improvement(
        progress.memory,
        moments.mean,
        moments.std,
        progress.memory[where],
        np.array(progress.errors, dtype=np.float64),
    )


def _over_means(moments: Moments, progress: Progress) -> NDArray[np.float64]:
    """The same over the posterior means of what was measured, which are not optimistic."""
    where = list(progress.indices)
    return improvement.expected_hypervolume_improvement(
        progress.memory, moments.mean, moments.std, progress.memory[where], moments.mean[where]
    )


def _reduction(moments: Moments, progress: Progress) -> NDArray[np.float64]:
    return improvement.variance_reduction(moments)


def _hidden(moments: Moments, progress: Progress) -> NDArray[np.float64]:
    """Variance reduction of what may not be measured only."""
    return _weighted_reduction(moments, (~progress.feasible).astype(np.float64))


def _front(moments: Moments, progress: Progress) -> NDArray[np.float64]:
    """Variance reduction, weighted by what each configuration may add to the frontier."""
    growth = _improvement(moments, progress)
    return _weighted_reduction(moments, growth / (growth.max() or 1.0))


def _weighted_reduction(moments: Moments, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """As improvement.variance_reduction, each configuration's variance weighted."""
    spread = moments.directions @ moments.latent
    gram = (spread.T * weights) @ spread
    taken = np.einsum("jk,kl,jl->j", moments.directions, gram, moments.directions, optimize=True)
    reduction: NDArray[np.float64] = taken / (moments.signal + moments.noise)
    return reduction


def _determinant(moments: Moments, progress: Progress) -> NDArray[np.float64]:
    """Bayesian D-optimal design: what raises the determinant of the latent's precision most."""
    return moments.signal / moments.noise


def _by(score: Score, first: Sequence[Score] = ()) -> Strategy:
    """The strategy that measures what scores highest; its first picks by other scores."""

    def choose(progress: Progress) -> int:
        count = len(progress.indices)
        rule = first[count] if count < len(first) else score
        moments = progress.meta.prior.condition(progress.indices, progress.errors).moments()
        free = progress.feasible.copy()
        free[list(progress.indices)] = False
        return int(np.where(free, rule(moments, progress), -np.inf).argmax())

    return Strategy(choose, posterior_mean)


NO_CAP: Final[Mapping[str, Strategy]] = {
    "the rule": STRATEGIES["bayesian"],
    "improvement alone": _by(_improvement),
    "improvement x variance": _by(lambda m, p: _improvement(m, p) * m.signal),
    "improvement over posterior means x std": _by(
        lambda m, p: _over_means(m, p) * np.sqrt(m.signal)
    ),
    "one informing pick, then the rule": _by(
        lambda m, p: _improvement(m, p) * np.sqrt(m.signal), [_reduction]
    ),
    "two D-optimal picks, then the rule": _by(
        lambda m, p: _improvement(m, p) * np.sqrt(m.signal), [_determinant, _determinant]
    ),
    "informing throughout": _by(_reduction),
    "ED-MF order": replace(PAPER["ed-mf"], predict=posterior_mean),
}

CAP: Final[Mapping[str, Strategy]] = {
    "the rule": STRATEGIES["bayesian"],
    "variance of what is hidden only": _by(_hidden),
    "variance, frontier first": _by(_front),
    "variance per root of memory": _by(lambda m, p: _reduction(m, p) / np.sqrt(p.memory)),
    "D-optimal": _by(_determinant),
    "improvement x std": _by(lambda m, p: _improvement(m, p) * np.sqrt(m.signal)),
    "ED-MF, as in the paper": PAPER["ed-mf"],
    "QR-MF, as in the paper": PAPER["qr-mf"],
}


@dataclass(frozen=True)
class Outcome:
    """One measure of one rule on one task after so many measurements."""

    task: str
    cap: bool
    rule: str
    measurements: int
    measure: str
    value: float


@dataclass(frozen=True)
class Comparison:
    """What is compared: tasks, measurements and the cap, in bytes, None for the median."""

    evaluation: Evaluation
    measurements: tuple[int, ...]
    cap: float | None

    def outcomes(self, row: int) -> list[Outcome]:
        """All rules on one task."""
        split = self.evaluation.split(row)
        task = self.evaluation.name(row)
        found = [
            Outcome(task, False, rule, count, measure, value)
            for rule, strategy in NO_CAP.items()
            for count, measures in self._no_cap(split, strategy)
            for measure, value in measures.items()
        ]
        cap = float(np.median(split.memory)) if self.cap is None else self.cap
        capped = replace(split, feasible=split.considered & (split.memory <= cap))
        if capped.feasible.all():
            return found
        return found + [
            Outcome(task, True, rule, count, measure, value)
            for rule, strategy in CAP.items()
            for count, measures in self._with_cap(capped, strategy)
            for measure, value in measures.items()
        ]

    def _no_cap(self, split: Split, strategy: Strategy) -> Iterator[tuple[int, dict[str, float]]]:
        memory, errors = scale(split.memory), split.errors
        everything = split.meta.prior.condition(np.arange(len(errors)), errors)
        signal = np.clip(everything.moments().mean, 0.0, 1.0)
        for indices, predicted in split.predictions(strategy, self.measurements, seed=0):
            where = list(indices)
            measured = np.zeros(len(errors), dtype=np.bool_)
            measured[where] = True
            quality = asdict(Quality.of(memory, errors, predicted, measured))
            yield (
                len(where),
                {
                    "measured_regret": _regret(memory, errors, where),
                    "measured_regret_of_signal": _regret(memory, signal, where),
                    **{
                        name: quality[name]
                        for name in (
                            "hypervolume_regret",
                            "relative_error",
                            "hyperdiff",
                            "convergence",
                        )
                    },
                },
            )

    def _with_cap(self, split: Split, strategy: Strategy) -> Iterator[tuple[int, dict[str, float]]]:
        hidden = split.considered & ~split.feasible
        norm = np.linalg.norm(split.errors[hidden])
        for indices, predicted in split.predictions(strategy, self.measurements, seed=0):
            away = np.linalg.norm((predicted - split.errors)[hidden])
            spent = split.memory[list(indices)].sum() / split.memory.sum()
            yield (
                len(indices),
                {"hidden_relative_error": float(away / norm), "relative_memory": float(spent)},
            )


def _regret(memory: NDArray[np.float64], errors: NDArray[np.float64], where: list[int]) -> float:
    points = np.column_stack((memory, errors))
    return pareto.hypervolume(points, REFERENCE) - pareto.hypervolume(points[where], REFERENCE)


def summary(outcomes: Sequence[Outcome]) -> Iterator[Row]:
    """Mean and standard error over tasks, and the paired difference to the rule."""
    values: dict[tuple[bool, str, int, str], dict[str, float]] = {}
    for o in outcomes:
        values.setdefault((o.cap, o.measure, o.measurements, o.rule), {})[o.task] = o.value
    for (cap, measure, count, rule), own in values.items():
        ours = values[cap, measure, count, "the rule"]
        tasks = sorted(own.keys() & ours.keys())
        mine = np.array([own[task] for task in tasks])
        away = mine - np.array([ours[task] for task in tasks])
        yield {
            "cap": int(cap),
            "rule": rule,
            "measurements": count,
            "measure": measure,
            "tasks": len(tasks),
            "mean": float(mine.mean()),
            "standard_error": standard_error(mine),
            "difference": float(away.mean()),
            "difference_standard_error": standard_error(away),
        }


def table(rows: Sequence[Row], cap: bool, measure: str) -> str:
    """One measure as Markdown: a row a rule, a column a number of measurements."""
    chosen = [row for row in rows if row["cap"] == int(cap) and row["measure"] == measure]
    counts = list(dict.fromkeys(row["measurements"] for row in chosen))
    lines = [
        f"| {measure}, {'with' if cap else 'no'} cap | {' | '.join(map(str, counts))} |",
        "| --- |" + " --- |" * len(counts),
    ]
    for rule in dict.fromkeys(str(row["rule"]) for row in chosen):
        cells = [f"{row['mean']:.4f}" for row in chosen if row["rule"] == rule]
        lines.append(f"| {rule} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Compares the rules and writes a CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--corpus", default="plain3-cifar100", help="a corpus or a CSV file")
    parser.add_argument("--cap", help="measurement cap, such as 816MiB; default: the median")
    parser.add_argument("--fraction", type=float, help="of the entries to learn from")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--quick", action="store_true", help="four tasks, up to six measurements")
    options = parser.parse_args()
    matrix = read_corpus(options.corpus)
    rows = np.flatnonzero(matrix.observed.all(axis=1)).tolist()[: 4 if options.quick else None]
    counts = QUICK if options.quick else MEASUREMENTS
    cap = None if options.cap is None else parse_size(options.cap)
    evaluation = Evaluation(matrix, PAPER, fraction=options.fraction)
    comparison = Comparison(evaluation, counts, cap)
    found = list(summary(paired.run(comparison.outcomes, rows, options.jobs)))
    share = f"-{100 * options.fraction:g}percent" if options.fraction else ""
    stem = Path(options.corpus).stem + share + ("-quick" if options.quick else "")
    paired.write(RESULTS, stem, found, {"tasks": len(rows), "cap": options.cap or "median"})
    for capped, measure in dict.fromkeys((bool(row["cap"]), str(row["measure"])) for row in found):
        print(table(found, capped, measure), end="\n\n")


if __name__ == "__main__":
    main()
