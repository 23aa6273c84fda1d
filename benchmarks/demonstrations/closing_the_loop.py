"""The more one tunes, the better it gets: past studies as the only thing to learn from.

The twenty superclasses of CIFAR-100 are tuned one after another into one Optuna storage, with real
trainings of `plain3`. Nothing is known at first, so every study measures the configurations that
all studies so far measured least (ties at random). Sixteen trainings a study are 320 in all, three
or four per configuration, so that each is still known after leaving any study out and nothing has
to be guessed; `benchmarks.samplers.own_studies` shows what guesses are worth.

Then each superclass in turn is the new task: the studies of the other nineteen (16% of their
entries) become an error matrix and a meta-model, and "bayesian" measures up to twelve
configurations. They are answered from the corpus that ships, which was measured with the same
settings; how many trainings of the studies gave exactly the corpus' error is printed.

Compared are, with the measures of `optuna_peppp.evaluation.quality`:

- "past studies": as above;
- "complete rows": the same, having learned from the nineteen complete rows of the corpus;
- "cold start": the same, having learned from nothing, with `MetaModel.cold`;
- "at random": configurations drawn at random, all others predicted to err as they do in the mean;
  the mean over seeds.

    python -m benchmarks.demonstrations.closing_the_loop [--quick] [--jobs 2] [--seed 0]

An interrupted run goes on from its storage, results/closing_the_loop.journal. What was measured is
written to results/closing_the_loop_measurements.csv, a corpus file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import optuna
from optuna.trial import TrialState
from tqdm import tqdm

from benchmarks.harness import script
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, markdown, mean_and_error
from optuna_peppp import (
    ConfigurationSpace,
    ErrorMatrix,
    MetaModel,
    error_matrix_from_studies,
    load_corpus,
)
from optuna_peppp.acquisition.design import random_order
from optuna_peppp.acquisition.strategies import STRATEGIES
from optuna_peppp.evaluation.quality import Quality
from optuna_peppp.evaluation.splits import Split
from optuna_peppp.lowprecision import Experiment
from optuna_peppp.processes import worker_pool
from optuna_peppp.studies.storage import load_studies, open_storage
from optuna_peppp.studies.trials import Usage, configuration_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

DATA: Final = script.DATA / "cifar100"
MEASUREMENTS: Final = (1, 2, 3, 6, 12)
SHOWN: Final = {
    "hyperdiff": "HyperDiff",
    "convergence": "convergence",
    "relative_error": "relative error of the prediction",
    "recommendation_regret": "regret of the recommendation\n(test error, mean over ten caps)",
}
LOOKS: Final = {
    "past studies": ("#D55E00", "o"),
    "complete rows": ("#0072B2", "s"),
    "cold start": ("#E69F00", "D"),
    "at random": ("0.5", "^"),
}


@dataclass(frozen=True)
class Plan:
    """How much is tuned: tasks and configurations of the corpus that ships, trainings a study."""

    truth: ErrorMatrix
    trials: int
    seeds: int

    @classmethod
    def of(cls, quick: bool) -> Plan:
        """All tasks, or four tasks and eight configurations."""
        corpus = load_corpus("plain3-cifar100")
        if not quick:
            return cls(corpus, trials=16, seeds=100)
        formats_a = ["1-3-1", "1-3-4", "1-4-2", "1-5-3"]
        space = ConfigurationSpace({"format_a": formats_a, "format_b": ["1-6-7", "1-8-11"]})
        columns = [corpus.space.index(space.params(index)) for index in range(len(space))]
        errors, memory = corpus.errors[:4, columns], corpus.memory[:4, columns]
        truth = ErrorMatrix(space, corpus.tasks[:4], errors, memory)
        return cls(truth, trials=4, seeds=10)


def tune_all(plan: Plan, storage: str, *, jobs: int, seed: int) -> None:
    """Completes one study per task, one after another."""
    opened = open_storage(storage, create=True)
    create = partial(optuna.create_study, directions=["minimize", "minimize"], load_if_exists=True)
    studies = [create(storage=opened, study_name=task) for task in plan.truth.tasks]
    rng = np.random.default_rng(seed)
    missing = plan.trials * len(studies) - sum(
        len(_trials(study, TrialState.COMPLETE)) for study in studies
    )
    if not missing:
        return
    if not DATA.is_dir():
        sys.exit(f"{missing} trainings are missing, and the images to train on: {DATA}")
    with worker_pool(jobs) as pool, tqdm(total=missing, unit="run") as bar:
        for study in studies:
            bar.set_description(study.study_name)
            enqueue_least_measured(study, studies, plan, rng)
            experiment = Experiment(f"npz:{DATA / study.study_name}.npz", "plain3")
            memory = experiment.memory(plan.truth.space)
            trials = [study.ask() for _ in _trials(study, TrialState.WAITING)]
            tried = [plan.truth.space.suggest(trial) for trial in trials]
            results = pool.map(experiment.measure, tried)
            for trial, params, result in zip(trials, tried, results, strict=True):
                trial.set_user_attr("diverged", result.diverged)
                index = plan.truth.space.index(params)
                study.tell(trial, (result.error, float(memory[index])))
                bar.update()


def enqueue_least_measured(
    study: optuna.Study, studies: list[optuna.Study], plan: Plan, rng: np.random.Generator
) -> None:
    """Queues what a study lacks: configurations that all studies so far measured least."""
    for trial in _trials(study, TrialState.RUNNING):
        study.tell(trial.number, state=TrialState.FAIL)  # of an earlier run, interrupted
    space = plan.truth.space
    usage = Usage.of((trial for other in studies for trial in other.get_trials()), space)
    counts = usage.spent + usage.live
    held = [
        configuration_of(trial, space)
        for trial in (*_trials(study, TrialState.COMPLETE), *_trials(study, TrialState.WAITING))
    ]
    order = np.lexsort((rng.permutation(len(space)), counts))
    free = [index for index in order.tolist() if index not in held]
    for index in free[: plan.trials - len(held)]:
        study.enqueue_trial(space.params(index))


def _trials(study: optuna.Study, state: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(state,))


def scores(plan: Plan, storage: str) -> Iterator[Row]:
    """The qualities with every task in turn as the new one, a row each."""
    studies, truth = load_studies(storage), plan.truth
    for row, task in enumerate(truth.tasks):
        others = [study for study in studies if study.study_name != task]
        complete = truth.rows(np.arange(len(truth.tasks)) != row)
        measured = error_matrix_from_studies(others, truth.space)
        metas = {
            "past studies": MetaModel.fit(measured),
            "complete rows": MetaModel.fit(complete),
            "cold start": MetaModel.cold(truth.space),
        }
        everything = np.ones(len(truth.space), dtype=np.bool_)
        qualities = {}
        for name, meta in metas.items():
            split = Split(meta, truth.memory[row], truth.errors[row], everything, everything)
            found = split.qualities(STRATEGIES["bayesian"], MEASUREMENTS, 0)
            qualities[name] = [asdict(quality) for quality in found]
        drawn = [without_past(plan, row, seed) for seed in range(plan.seeds)]
        qualities["at random"] = [
            {measure: float(np.mean([q[measure] for q in seeds])) for measure in seeds[0]}
            for seeds in zip(*drawn, strict=True)
        ]
        for name, each in qualities.items():
            for count, quality in zip(MEASUREMENTS, each, strict=True):
                yield {"task": task, "learned_from": name, "measurements": count, **quality}


def without_past(plan: Plan, row: int, seed: int) -> list[dict[str, float]]:
    """The qualities of measuring at random and knowing nothing of other tasks."""
    memory, errors = plan.truth.memory[row], plan.truth.errors[row]
    order = random_order(len(errors), seed * len(plan.truth.tasks) + row)
    qualities = []
    for count in MEASUREMENTS:
        indices = order[:count]
        predicted = np.full(len(errors), errors[indices].mean())
        predicted[indices] = errors[indices]
        measured = np.isin(np.arange(len(errors)), indices)
        qualities.append(asdict(Quality.of(memory, errors, predicted, measured)))
    return qualities


def summary(rows: Sequence[Row], name: str, measure: str) -> list[tuple[float, float]]:
    """Mean and standard error over tasks, by number of measurements."""
    own = [row for row in rows if row["learned_from"] == name]
    return [
        mean_and_error([float(row[measure]) for row in own if row["measurements"] == count])
        for count in MEASUREMENTS
    ]


def draw(rows: Sequence[Row], results: Results) -> None:
    """The measures over the number of measurements."""
    from benchmarks.harness import looks

    figure, grid = looks.panels(2, 2, figsize=(7.2, 5.4), sharex=True)
    for axes, (measure, label) in zip(grid.flat, SHOWN.items(), strict=True):
        for name, (color, marker) in LOOKS.items():
            means, errors = zip(*summary(rows, name, measure), strict=True)
            look = {"color": color, "marker": marker, "markersize": 4, "capsize": 2}
            axes.errorbar(MEASUREMENTS, means, yerr=errors, linewidth=1.2, label=name, **look)
        axes.set(ylabel=label)
        looks.logarithmic(axes, ticks=MEASUREMENTS)
    for axes in grid[1]:
        axes.set_xlabel("measurements on the new task")
    looks.legend(figure, grid[0, 0], "lower", columns=4)
    results.picture(figure)


def table(rows: Sequence[Row], measure: str) -> str:
    """One measure in Markdown: a line a source, a column a number of measurements."""
    lines = [[measure, *map(str, MEASUREMENTS)]]
    for name in LOOKS:
        lines.append([name, *(f"{m:.4f} ± {e:.4f}" for m, e in summary(rows, name, measure))])
    return markdown(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Tunes, learns, scores, writes, prints."""
    parser = script.parser(__doc__, "4 tasks, 8 configurations")
    parser.add_argument("--jobs", type=int, default=2, help="processes that train")
    parser.add_argument("--seed", type=int, default=0, help="of the ties")
    options = parser.parse_args(argv)
    results = Results(script.folder(options), "closing_the_loop")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan, storage = Plan.of(options.quick), str(results.path("journal"))
    tune_all(plan, storage, jobs=options.jobs, seed=options.seed)
    measured = error_matrix_from_studies(load_studies(storage), plan.truth.space)
    models, settings = ("plain3",) * len(measured.tasks), {"learning_rate": 0.001}
    replace(measured, models=models, settings=settings).write_csv(
        results.path("csv", "measurements")
    )
    truth = plan.truth.errors[[plan.truth.tasks.index(task) for task in measured.tasks]]
    # The corpus keeps six digits.
    equal = np.abs(measured.errors - truth)[measured.observed] < 1e-6
    print(f"{equal.sum()} of {equal.size} trainings gave the error that the corpus holds")
    rows = list(scores(plan, storage))
    results.table(rows)
    trainings = {"trainings": int(equal.size), "equal_to_the_corpus": int(equal.sum())}
    results.record({"seed": options.seed, **trainings})
    draw(rows, results)
    print("\n\n".join(table(rows, measure) for measure in SHOWN))


if __name__ == "__main__":
    main()
