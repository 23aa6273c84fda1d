"""The more one tunes, the better it gets: past studies as the only thing to learn from.

The twenty superclasses of CIFAR-100 are tuned one after another into one Optuna storage, with real
trainings of `plain3`. Nothing is known at first, so every study measures the configurations that
all studies so far measured least (ties at random): a meta-model needs every configuration measured
once. Sixteen trainings a study are 320 in all, three or four per configuration, so that each is
still known after leaving any study out.

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

    python benchmarks/closing_the_loop.py [--quick] [--jobs 2] [--seed 0]

An interrupted run goes on from its storage, results/closing_the_loop.journal. What was measured is
written to results/closing_the_loop_measurements.csv, a corpus file.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import optuna
from environment import describe
from optuna.trial import TrialState
from tqdm import tqdm

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
from optuna_peppp.lowprecision import Experiment, TrainingResult
from optuna_peppp.processes import worker_pool
from optuna_peppp.studies.storage import load_studies, open_storage
from optuna_peppp.studies.trials import Usage, configuration_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from optuna.trial import FrozenTrial

RESULTS: Final = Path(__file__).parent / "results"
DATA: Final = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar100"
MEASUREMENTS: Final = (1, 2, 3, 6, 12)
SHOWN: Final = {
    "hyperdiff": "HyperDiff",
    "convergence": "convergence",
    "relative_error": "relative error of the prediction",
    "recommendation_regret": "regret of the recommendation\n(test error, mean over ten caps)",
}
TICKS: Final = tuple(lead * 10.0**power for power in (-4, -3, -2, -1) for lead in (1, 2, 5))
LOOKS: Final = {
    "past studies": ("tab:red", "o"),
    "complete rows": ("tab:blue", "s"),
    "cold start": ("tab:orange", "D"),
    "at random": ("0.5", "^"),
}


@dataclass(frozen=True)
class Plan:
    """How much is tuned.

    Attributes:
        name: Of the files.
        truth: The corpus that ships, cut to the tasks and configurations of the plan.
        trials: Trainings a study.
        seeds: Of the strategies that draw at random.
    """

    name: str
    truth: ErrorMatrix
    trials: int
    seeds: int

    @classmethod
    def of(cls, quick: bool) -> Plan:
        """All thirteen tasks, or four tasks and eight configurations."""
        corpus = load_corpus("plain3-cifar100")
        if not quick:
            return cls("closing_the_loop", corpus, trials=16, seeds=100)
        space = ConfigurationSpace(
            {
                "format_a": ["1-3-1", "1-3-4", "1-4-2", "1-5-3"],
                "format_b": ["1-6-7", "1-8-11"],
            }
        )
        columns = [corpus.space.index(space.params(index)) for index in range(len(space))]
        errors, memory = corpus.errors[:4, columns], corpus.memory[:4, columns]
        truth = ErrorMatrix(space, corpus.tasks[:4], errors, memory)
        return cls("closing_the_loop_quick", truth, trials=4, seeds=10)


def tune_all(plan: Plan, storage: str, *, jobs: int, seed: int) -> None:
    """Completes one study per task, one after another."""
    opened = open_storage(storage, create=True)
    studies = [
        optuna.create_study(
            storage=opened,
            study_name=task,
            directions=["minimize", "minimize"],
            load_if_exists=True,
        )
        for task in plan.truth.tasks
    ]
    rng = np.random.default_rng(seed)
    missing = plan.trials * len(studies) - sum(len(completed(study)) for study in studies)
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
            running: dict[Future[TrainingResult], tuple[optuna.Trial, int]] = {}
            while waiting(study) or running:
                while waiting(study) and len(running) < jobs:
                    trial = study.ask()
                    params = plan.truth.space.suggest(trial)
                    future = pool.submit(experiment.measure, params)
                    running[future] = trial, plan.truth.space.index(params)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    trial, index = running.pop(future)
                    result = future.result()
                    trial.set_user_attr("diverged", result.diverged)
                    study.tell(trial, (result.error, float(memory[index])))
                    bar.update()


def enqueue_least_measured(
    study: optuna.Study, studies: list[optuna.Study], plan: Plan, rng: np.random.Generator
) -> None:
    """Queues what a study lacks: configurations that all studies so far measured least."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)  # of an earlier run, interrupted
    space = plan.truth.space
    usage = Usage.of((trial for other in studies for trial in other.get_trials()), space)
    counts = usage.spent + usage.live
    held = [configuration_of(trial, space) for trial in (*completed(study), *waiting(study))]
    order = np.lexsort((rng.permutation(len(space)), counts))
    free = [index for index in order.tolist() if index not in held]
    for index in free[: plan.trials - len(held)]:
        study.enqueue_trial(space.params(index))


def completed(study: optuna.Study) -> list[FrozenTrial]:
    """Its completed trials."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def waiting(study: optuna.Study) -> list[FrozenTrial]:
    """Its queued trials."""
    return study.get_trials(deepcopy=False, states=(TrialState.WAITING,))


def scores(plan: Plan, storage: str) -> Iterator[dict[str, str | int | float]]:
    """The qualities with every task in turn as the new one, a row each."""
    studies, truth = load_studies(storage), plan.truth
    for row, task in enumerate(truth.tasks):
        others = [study for study in studies if study.study_name != task]
        rows = [other for other in range(len(truth.tasks)) if other != row]
        tasks = tuple(truth.tasks[other] for other in rows)
        complete = ErrorMatrix(truth.space, tasks, truth.errors[rows], truth.memory[rows])
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


def summary(
    rows: list[dict[str, str | int | float]], name: str, measure: str
) -> tuple[list[float], list[float]]:
    """Mean and standard error over tasks, by number of measurements."""
    groups = [
        [
            float(row[measure])
            for row in rows
            if row["learned_from"] == name and row["measurements"] == count
        ]
        for count in MEASUREMENTS
    ]
    means = [float(np.mean(group)) for group in groups]
    return means, [float(np.std(group, ddof=1) / np.sqrt(len(group))) for group in groups]


def draw(rows: list[dict[str, str | int | float]], path: Path) -> None:
    """The measures over the number of measurements."""
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(2, 2, figsize=(7.2, 5.4), sharex=True, layout="constrained")
    panels: list[Axes] = list(grid.flat)
    for axes, (measure, label) in zip(panels, SHOWN.items(), strict=True):
        for name, (color, marker) in LOOKS.items():
            means, deviations = summary(rows, name, measure)
            axes.errorbar(
                MEASUREMENTS,
                means,
                yerr=deviations,
                color=color,
                marker=marker,
                markersize=4,
                linewidth=1.2,
                capsize=2,
                label=name,
            )
        axes.set(xscale="log", yscale="log", ylabel=label)
        axes.set_xticks(MEASUREMENTS, [str(count) for count in MEASUREMENTS])
        low, high = axes.get_ylim()
        ticks = [tick for tick in TICKS if low <= tick <= high]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    for axes in panels[2:]:
        axes.set_xlabel("measurements on the new task")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Tunes, learns, scores, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="4 tasks, 8 configurations")
    parser.add_argument("--jobs", type=int, default=2, help="processes that train")
    parser.add_argument("--seed", type=int, default=0, help="of the ties")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    arguments.output.mkdir(parents=True, exist_ok=True)

    plan = Plan.of(arguments.quick)
    path = arguments.output / plan.name
    storage = f"{path}.journal"
    tune_all(plan, storage, jobs=arguments.jobs, seed=arguments.seed)
    measured = error_matrix_from_studies(load_studies(storage), plan.truth.space)
    replace(
        measured, models=("plain3",) * len(measured.tasks), settings={"learning_rate": 0.001}
    ).write_csv(f"{path}_measurements.csv")
    truth = plan.truth.errors[[plan.truth.tasks.index(task) for task in measured.tasks]]
    # The corpus keeps six digits.
    equal = np.abs(measured.errors - truth)[measured.observed] < 1e-6
    print(f"{equal.sum()} of {equal.size} trainings gave the error that the corpus holds")

    rows = list(scores(plan, storage))
    with Path(f"{path}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    facts = {"trainings": int(equal.size), "equal_to_the_corpus": int(equal.sum())}
    Path(f"{path}.json").write_text(json.dumps(facts | describe(), indent=2) + "\n")
    draw(rows, Path(f"{path}.png"))
    for measure in SHOWN:
        print(f"\n{measure:<24}" + "".join(f"{count:>16}" for count in MEASUREMENTS))
        for name in LOOKS:
            cells = (
                f"{m:.4f} ± {e:.4f}" for m, e in zip(*summary(rows, name, measure), strict=True)
            )
            print(f"{name:<24}" + "".join(f"{cell:>16}" for cell in cells))


if __name__ == "__main__":
    main()
