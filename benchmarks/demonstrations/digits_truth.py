"""How close six measurements of `optuna-peppp tune` come to the truth on digits.

The truth is measured once: all 99 configurations, with the settings of `tune`, into
results/digits_measurements.csv (committed, so that nothing is trained while it is there; resumable
where it is not). Then
every strategy measures six configurations through its Optuna sampler, answered from the truth, and
predicts the rest. Shown are, with memory scaled as in optuna_peppp.evaluation.quality:

- HyperDiff of the predicted and the true frontier;
- convergence of the predicted frontier;
- regret of the recommendation: its true error less the lowest true error, under three caps at
  25, 50 and 75% of the range of memory.

"random" measures at random and uses no past tasks: its frontier is that of what it measured, its
regret that of its best measurement under the cap (or of the smallest configuration).

"bayesian" and "ed-mf" are deterministic: their spread is shown over past tasks instead of over
seeds, by leaving out each of them in turn (column left_out). Predictions are the posterior's, for
all strategies alike.

    python -m benchmarks.demonstrations.digits_truth [--quick] [--jobs 2]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import optuna
from numpy.typing import NDArray

from benchmarks.harness import script
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, markdown
from optuna_peppp import (
    ConfigurationSpace,
    ErrorMatrix,
    MetaModel,
    PEPPPSampler,
    load_corpus,
    pareto,
)
from optuna_peppp.collecting.corpus_file import export
from optuna_peppp.collecting.planning import plan
from optuna_peppp.collecting.workers import collect
from optuna_peppp.lowprecision import Experiment
from optuna_peppp.pareto import REFERENCE, scale
from optuna_peppp.prediction import Prediction
from optuna_peppp.studies.results import measurements, predict

TRUTH: Final = script.RESULTS / "digits_measurements.csv"
MEASUREMENTS: Final = 6
SEEDS: Final = 20
CAPS: Final = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Truth:
    """Errors and memory of all configurations on digits, and what the past tasks tell."""

    meta: MetaModel
    errors: NDArray[np.float64]
    memory: NDArray[np.float64]

    @property
    def caps(self) -> list[float]:
        """Memory caps, bytes."""
        low, high = self.memory.min(), self.memory.max()
        return [float(low + share * (high - low)) for share in CAPS]

    def points(self, errors: NDArray[np.float64], chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        """(scaled memory, error) of configurations, shape (m, 2)."""
        return np.column_stack([scale(self.memory)[chosen], errors[chosen]])

    @property
    def frontier(self) -> NDArray[np.intp]:
        """The configurations of the true frontier, by growing memory."""
        return pareto.frontier(np.column_stack([self.memory, self.errors]))


def measure_truth(jobs: int) -> Truth:
    """Reads the truth; measures it first where it is not there."""
    space = ConfigurationSpace.paper()
    if not TRUTH.exists():
        planned = plan([Experiment("digits", "plain3")], space, range(len(space)))
        storage = str(TRUTH.with_suffix(".journal"))
        collect(planned, storage, jobs=jobs)
        export(planned, storage, TRUTH)
    matrix = ErrorMatrix.read_csv(TRUTH, space)
    return Truth(MetaModel.fit(load_corpus("plain3-cifar100")), matrix.errors[0], matrix.memory[0])


def study_of(truth: Truth, strategy: str, seed: int) -> optuna.Study:
    """Six measurements of one strategy, answered from the truth."""
    sampler = PEPPPSampler(truth.meta, truth.memory, strategy=strategy, seed=seed)  # type: ignore[arg-type]
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        index = truth.meta.space.index(truth.meta.space.suggest(trial))
        return truth.errors[index], truth.memory[index]

    study.optimize(objective, n_trials=MEASUREMENTS)
    return study


def without(truth: Truth, task: str) -> Truth:
    """The same truth, with one past task less to learn from."""
    corpus = load_corpus("plain3-cifar100")
    fewer = corpus.rows([name != task for name in corpus.tasks])
    return replace(truth, meta=MetaModel.fit(fewer))


def score(truth: Truth, strategy: str, seed: int, left_out: str = "") -> Row:
    """The measures of one strategy and seed."""
    study = study_of(truth, "random-mf" if strategy == "random" else strategy, seed)
    if strategy == "random":
        measured = np.unique(measurements(study, truth.meta.space)[0])
        points = truth.points(truth.errors, measured)
        estimated = points[pareto.frontier(points)]
        chosen = [_best_measured(truth, measured, cap) for cap in truth.caps]
    else:
        prediction = predict(study, truth.meta, truth.memory)
        estimated = truth.points(prediction.mean, prediction.frontier)
        chosen = [prediction.recommend(cap).index for cap in truth.caps]
    true = truth.points(truth.errors, truth.frontier)
    regrets = [
        truth.errors[index] - truth.errors[truth.memory <= cap].min()
        for index, cap in zip(chosen, truth.caps, strict=True)
    ]
    return {
        "strategy": strategy,
        "seed": seed,
        "left_out": left_out,
        "measurements": MEASUREMENTS,
        "hyperdiff": pareto.hyperdiff(estimated, true, REFERENCE),
        "convergence": pareto.convergence(estimated, true),
        **{f"regret_{cap:.0%}": regret for cap, regret in zip(CAPS, regrets, strict=True)},
    }


def _best_measured(truth: Truth, measured: NDArray[np.intp], cap: float) -> int:
    allowed = measured[truth.memory[measured] <= cap]
    if len(allowed) == 0:
        return int(truth.memory.argmin())
    return int(allowed[truth.errors[allowed].argmin()])


def draw(truth: Truth, prediction: Prediction, results: Results) -> None:
    """The true frontier, and what six measurements made of it (as the paper's Figure 7)."""
    from benchmarks.harness import looks

    megabytes, true = truth.memory / 1e6, truth.frontier
    figure, ((axes,),) = looks.panels(1, 1, figsize=(7.2, 4.6))
    axes.scatter(megabytes, truth.errors, s=14, color="0.75", label="all 99, measured afterwards")
    axes.step(
        np.append(megabytes[true], megabytes.max()),
        np.append(truth.errors[true], truth.errors[true[-1]]),
        where="post",
        color="0.45",
        linewidth=1,
        label="true frontier",
    )
    measured = np.flatnonzero(prediction.measured)
    square = {"s": 70, "marker": "s", "facecolors": "none", "edgecolors": looks.ORANGE}
    points = megabytes[measured], truth.errors[measured]
    axes.scatter(*points, linewidths=1.8, label="the six measured", **square)
    frontier, (low, high) = prediction.frontier, prediction.band
    axes.fill_between(
        np.append(megabytes[frontier], megabytes.max()),
        np.append(low, low[-1]),
        np.append(high, high[-1]),
        step="post",
        color=looks.RED,
        alpha=0.15,
        linewidth=0,
        label="90% band of the frontier",
    )
    guessed = frontier[~prediction.measured[frontier]]
    (below, above), expected = prediction.interval[:, guessed], prediction.mean[guessed]
    axes.errorbar(
        megabytes[guessed],
        expected,
        yerr=np.maximum([expected - below, above - expected], 0.0),
        fmt="x",
        color=looks.RED,
        elinewidth=0.8,
        capsize=2,
        label="predicted frontier, 90% intervals",
    )
    cap = truth.caps[1]
    chosen = prediction.recommend(cap).index
    axes.axvline(cap / 1e6, color=looks.BLUE, linestyle=":", linewidth=1)
    star = {"s": 130, "marker": "*", "color": looks.BLUE, "zorder": 3}
    label = f"recommended under {cap / 1e6:.2f} MB, its true error"
    axes.scatter(megabytes[chosen], truth.errors[chosen], label=label, **star)
    axes.set(xlabel="memory of the training (MB)", ylabel="test error on digits")
    looks.logarithmic(axes)
    looks.legend(figure, axes, "lower", columns=2)
    results.picture(figure)


def table(rows: Sequence[Row]) -> str:
    """Mean and deviation over runs, a line a strategy."""
    measures = list(rows[0])[4:]
    groups: dict[str, list[list[float]]] = {}
    for row in rows:
        name = f"{row['strategy']}{', a past task less' if row['left_out'] else ''}"
        groups.setdefault(name, []).append([float(row[measure]) for measure in measures])
    lines = [["strategy", "runs", *measures]]
    for name, values in groups.items():
        each = zip(np.mean(values, axis=0), np.std(values, axis=0), strict=True)
        lines.append([name, str(len(values)), *(f"{m:.4f} ± {s:.4f}" for m, s in each)])
    return markdown(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, scores, writes, prints."""
    parser = script.parser(__doc__, "3 seeds instead of 20")
    parser.add_argument("--jobs", type=int, default=2, help="processes that measure the truth")
    options = parser.parse_args(argv)
    results = Results(script.folder(options), "digits_truth")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    truth = measure_truth(options.jobs)
    seeds = range(3 if options.quick else SEEDS)
    rows = [score(truth, strategy, 0) for strategy in ("bayesian", "ed-mf", "qr-mf")]
    for task in truth.meta.tasks:
        fewer = without(truth, task)
        rows += [score(fewer, strategy, 0, task) for strategy in ("bayesian", "ed-mf")]
    rows += [score(truth, strategy, seed) for strategy in ("random-mf", "random") for seed in seeds]
    results.table(rows)
    results.record({"seeds": len(seeds), "measurements": MEASUREMENTS})
    draw(truth, predict(study_of(truth, "bayesian", 0), truth.meta, truth.memory), results)
    print(table(rows))


if __name__ == "__main__":
    main()
