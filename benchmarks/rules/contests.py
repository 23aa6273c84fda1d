"""What is compared on a task, and by which measures: a contest is a class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.rules.alternatives import CAP, NO_CAP
from optuna_peppp import pareto
from optuna_peppp.acquisition.strategies import STRATEGIES, Strategy
from optuna_peppp.evaluation.leave_one_out import Evaluation
from optuna_peppp.evaluation.quality import Calibration, Quality
from optuna_peppp.evaluation.splits import Split
from optuna_peppp.pareto import REFERENCE, scale
from optuna_peppp.prediction import Prediction

Key = tuple[Any, ...]
Measures = dict[str, float]

JUDGED: Final = ("hypervolume_regret", "relative_error", "hyperdiff", "convergence")
"""Of optuna_peppp.evaluation.quality, without a cap."""


@dataclass(frozen=True)
class Alternatives:
    """The rule beside what it might do instead; all see the same posterior.

    - Without a cap every configuration may be measured. Judged is the hypervolume regret of what
      was measured (at the errors as measured, and at their signal: the posterior mean given the
      whole row, which has no noise), and the prediction by measures of
      optuna_peppp.evaluation.quality.
    - With a cap, configurations above it may not be measured, but count. Judged is the relative
      error on those alone, and the memory that the measurements took.

    Attributes:
        cap: Bytes; None for the median memory of each task.
    """

    cap: float | None
    folder: ClassVar = "rules"
    counts: ClassVar = (1, 2, 3, 4, 6, 8, 10, 12, 15, 20, 30), (1, 3, 6)
    columns: ClassVar = "cap", "rule", "measurements", "measure"

    def outcomes(self, split: Split, counts: tuple[int, ...]) -> Iterator[tuple[Key, float]]:
        """Without a cap, then with one, where it forbids anything."""
        cap = float(np.median(split.memory)) if self.cap is None else self.cap
        capped = replace(split, feasible=split.considered & (split.memory <= cap))
        yield from _keyed(0, NO_CAP, counts, lambda s: _without_cap(split, s, counts))
        if not capped.feasible.all():
            yield from _keyed(1, CAP, counts, lambda s: _with_cap(capped, s, counts))

    def rivals(self, key: Key) -> Iterable[tuple[str, Key]]:
        """The rule."""
        cap, _, *rest = key
        yield "difference", (cap, "the rule", *rest)


def _keyed(
    cap: int, rules: Mapping[str, Strategy], counts: tuple[int, ...], measured: Any
) -> Iterator[tuple[Key, float]]:
    for rule, strategy in rules.items():
        for count, measures in zip(counts, measured(strategy), strict=True):
            for measure, value in measures.items():
                yield (cap, rule, count, measure), value


def _without_cap(split: Split, strategy: Strategy, counts: tuple[int, ...]) -> Iterator[Measures]:
    memory, errors = scale(split.memory), split.errors
    everything = split.meta.prior.condition(np.arange(len(errors)), errors)
    signal = np.clip(everything.moments().mean, 0.0, 1.0)
    for indices, predicted in split.predictions(strategy, counts, seed=0):
        chosen = list(indices)
        measured = np.zeros(len(errors), dtype=np.bool_)
        measured[chosen] = True
        quality = asdict(Quality.of(memory, errors, predicted, measured))
        yield {
            "measured_regret": _regret(memory, errors, chosen),
            "measured_regret_of_signal": _regret(memory, signal, chosen),
        } | {name: quality[name] for name in JUDGED}


def _with_cap(split: Split, strategy: Strategy, counts: tuple[int, ...]) -> Iterator[Measures]:
    hidden = split.considered & ~split.feasible
    norm = np.linalg.norm(split.errors[hidden])
    for indices, predicted in split.predictions(strategy, counts, seed=0):
        away = np.linalg.norm((predicted - split.errors)[hidden])
        spent = split.memory[list(indices)].sum() / split.memory.sum()
        yield {"hidden_relative_error": float(away / norm), "relative_memory": float(spent)}


def _regret(memory: NDArray[np.float64], errors: NDArray[np.float64], chosen: list[int]) -> float:
    points = np.column_stack((memory, errors))
    return pareto.hypervolume(points, REFERENCE) - pareto.hypervolume(points[chosen], REFERENCE)


@dataclass(frozen=True)
class Paper:
    """What the posterior gains over the paper's method, at every number of measurements.

    ``bayesian`` chooses and predicts by the posterior, ``ed-mf`` and ``qr-mf`` as in the paper, all
    from the same meta-model. Reported are the measures of optuna_peppp.quality; of the posterior
    alone also its calibration.
    """

    folder: ClassVar = "against_paper"
    counts: ClassVar = (1, 2, 3, 4, 6, 8, 12), (1, 3, 6)
    columns: ClassVar = "strategy", "measurements", "measure"

    def outcomes(self, split: Split, counts: tuple[int, ...]) -> Iterator[tuple[Key, float]]:
        """All three strategies."""
        memory = scale(split.memory)
        for name in ("bayesian", "ed-mf", "qr-mf"):
            for indices, predicted in split.predictions(STRATEGIES[name], counts, seed=0):
                measured = np.zeros(len(predicted), dtype=np.bool_)
                measured[list(indices)] = True
                measures = asdict(Quality.of(memory, split.errors, predicted, measured))
                if name == "bayesian":
                    measures |= asdict(calibration(split, list(indices)))
                for measure, value in measures.items():
                    yield (name, len(indices), measure), value

    def rivals(self, key: Key) -> Iterable[tuple[str, Key]]:
        """Of ``bayesian``, both of the paper's."""
        strategy, *rest = key
        if strategy == "bayesian":
            yield from ((f"less_{rival}", (rival, *rest)) for rival in ("ed-mf", "qr-mf"))


def calibration(split: Split, indices: list[int]) -> Calibration:
    """Of the posterior after some measurements of a task."""
    errors = split.errors
    prediction = Prediction.from_measurements(split.meta, split.memory, indices, errors[indices])
    return Calibration.of(prediction, errors)


@dataclass(frozen=True)
class Contested:
    """A contest on the tasks of a corpus, each left out in turn."""

    evaluation: Evaluation
    contest: Alternatives | Paper
    counts: tuple[int, ...]

    def __call__(self, row: int) -> list[tuple[Key, str, float]]:
        """Keys, the task and values."""
        split, task = self.evaluation.split(row), self.evaluation.name(row)
        return [(key, task, value) for key, value in self.contest.outcomes(split, self.counts)]
