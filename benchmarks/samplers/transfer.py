"""Does what was learned on one kind of network help on another (the paper's Section E.5, on ours)?

Corpora of the same space, each of another kind of network and data. Every task of each corpus in
turn is the new one, and what its measurements gain is compared for what was learned from: the other
tasks of the same corpus, those of another corpus, those of all corpora, or nothing; never from the
new task's data set, whatever the network.
A task that was measured in part is a smaller world: its space is what was measured of it. Reported
are, after every number of measurements, the hypervolume regret of what was measured (memory scaled
to [0, 1], reference memory 1.05, error 1), the regret of the recommendation under memory caps, and
the relative error of the prediction of what was not measured.

    python -m benchmarks.samplers.transfer CORPUS CORPUS ... [--quick] [--jobs N]

- results/transfer.csv, .png and .json.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.harness import looks, script, tasks
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, markdown, mean_and_error, six_digits
from optuna_peppp import ConfigurationSpace, ErrorMatrix, MetaModel, pareto
from optuna_peppp.acquisition.strategies import STRATEGIES, Progress
from optuna_peppp.corpora.catalog import read_corpus
from optuna_peppp.pareto import REFERENCE, scale

BUDGETS: Final = (1, 2, 3, 4, 6, 8)
FEWEST: Final = 10
"""Configurations that a task was measured under, at least, to be a new one."""

CAPS: Final = (0.25, 0.5, 0.75)
"""Of the range of memory."""

SAME: Final = "same kind"
ALL: Final = "all kinds"
COLD: Final = "nothing"
STRATEGY: Final = {"default": "bayesian", "portfolio": "portfolio"}
MEASURES: Final = ("hypervolume_regret", "recommendation_regret", "relative_error")

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Transfer:
    """What is learned, and tried on every task.

    Attributes:
        corpora: By name, of one space.
        budgets: Numbers of measurements.
    """

    corpora: dict[str, ErrorMatrix]
    budgets: tuple[int, ...]

    def new_tasks(self) -> Iterator[tuple[str, int]]:
        """Corpora and rows of the tasks that were measured under enough configurations."""
        for name, matrix in self.corpora.items():
            for row in np.flatnonzero(matrix.observed.sum(axis=1) >= FEWEST).tolist():
                yield name, row

    def __call__(self, task: tuple[str, int]) -> list[Row]:
        """Rows of one task: what was learned from, strategy, budget and measures."""
        name, row = task
        matrix = self.corpora[name]
        known = matrix.observed[row]
        errors, memory = matrix.errors[row], np.where(known, matrix.memory[row], np.nan)
        found = list[Row]()
        for source, meta in self._learned(name, row):
            for label, strategy in STRATEGY.items():
                if meta.tasks or strategy != "portfolio":
                    for budget, measures in self._played(meta, strategy, known, errors, memory):
                        found.append(
                            {
                                "corpus": name,
                                "task": matrix.labels[row],
                                "learned_from": source,
                                "strategy": label,
                                "measurements": budget,
                                **measures,
                            }
                        )
        return found

    def _learned(self, name: str, row: int) -> Iterator[tuple[str, MetaModel]]:
        """What is learned from, and what was learned."""
        own = self.corpora[name]
        foreign = [other for other in self.corpora if other != name]
        yield SAME, self._fitted((name,), own.tasks[row])
        for other in foreign:
            yield other, self._fitted((other,), own.tasks[row])
        if foreign:
            yield ALL, self._fitted(tuple(self.corpora), own.tasks[row])
        yield COLD, MetaModel.cold(own.space)

    def _fitted(self, names: tuple[str, ...], left_out: str) -> MetaModel:
        """Learned from all tasks of these corpora but one."""
        everything = {task for name in names for task in self.corpora[name].tasks}
        return _fit(self, names, left_out if left_out in everything else None)

    def _played(
        self, meta: MetaModel, strategy: str, known: NDArray[np.bool_], errors: Array, memory: Array
    ) -> Iterator[tuple[int, Row]]:
        """What was found after each budget, by measuring among what is known of the task."""
        one, indices = STRATEGIES[strategy], list[int]()
        scaled = scale(memory[known])
        points = np.column_stack((scaled, errors[known]))
        whole = pareto.hypervolume(points, REFERENCE)
        for count in range(1, max(self.budgets) + 1):
            progress = Progress(meta, memory, known, known, indices, errors[indices], seed=0)
            indices.append(one.choose(progress))
            if count not in self.budgets:
                continue
            measured = np.isin(np.flatnonzero(known), indices)
            progress = replace(progress, indices=indices, errors=errors[indices])
            predicted = one.predict(progress)[known]
            predicted[measured] = errors[known][measured]
            away = (predicted - errors[known])[~measured]
            yield (
                count,
                {
                    "hypervolume_regret": whole - pareto.hypervolume(points[measured], REFERENCE),
                    "recommendation_regret": _recommendation_regret(points, predicted),
                    "relative_error": float(
                        np.linalg.norm(away) / np.linalg.norm(errors[known][~measured])
                    ),
                },
            )


def _recommendation_regret(points: Array, predicted: Array) -> float:
    """By how much the configuration of the lowest predicted error under a cap misses the best."""
    missed = []
    for cap in CAPS:
        under = np.flatnonzero(points[:, 0] <= cap)
        if under.size:
            best = under[predicted[under].argmin()]
            missed.append(points[best, 1] - points[under, 1].min())
    return float(np.mean(missed))


@cache
def _fit(transfer: Transfer, names: tuple[str, ...], left_out: str | None) -> MetaModel:
    matrices = [transfer.corpora[name] for name in names]
    kept = [np.array([task != left_out for task in each.tasks]) for each in matrices]
    labels = zip(names, matrices, kept, strict=True)
    return MetaModel.fit(
        ErrorMatrix(
            matrices[0].space,
            tuple(
                f"{name}: {label}"
                for name, each, rows in labels
                for label in np.array(each.labels)[rows].tolist()
            ),
            np.concatenate([each.errors[rows] for each, rows in zip(matrices, kept, strict=True)]),
            np.concatenate([each.memory[rows] for each, rows in zip(matrices, kept, strict=True)]),
        )
    )


def read(names: Sequence[str]) -> dict[str, ErrorMatrix]:
    """The corpora, by name, their configurations in the order of the first one's.

    Raises:
        OSError, ValueError: One cannot be read, or is of other configurations.
    """
    found = dict[str, ErrorMatrix]()
    space: ConfigurationSpace | None = None
    for name in names:
        matrix = read_corpus(name)
        space = space or matrix.space
        if matrix.space != space:
            raise ValueError(f"{name} is of another space than {names[0]}")
        found[Path(name).stem] = matrix
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Compares, writes a CSV and a picture, prints two tables."""
    parser = script.parser(__doc__, "three tasks a corpus, up to three measurements")
    parser.add_argument("corpora", nargs="+", help="names or files, of one space")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    options = parser.parse_args(argv)
    try:
        corpora = read(options.corpora)
    except (OSError, ValueError) as problem:
        parser.error(str(problem))
    transfer = Transfer(corpora, BUDGETS[:3] if options.quick else BUDGETS)
    chosen = list(transfer.new_tasks())
    if options.quick:
        chosen = [
            task
            for task in chosen
            if sum(o[0] == task[0] for o in chosen[: chosen.index(task)]) < 3
        ]
    if not chosen:
        parser.error(f"no task was measured under {FEWEST} configurations or more")
    outcomes = dict(tasks.each(transfer, chosen, options.jobs))
    rows = list(_means([row for task in chosen for row in outcomes[task]]))
    results = Results(script.folder(options), "transfer")
    results.table([six_digits(row) for row in rows])
    results.picture(_drawn(rows))
    results.record({"corpora": list(corpora), "tasks": len(chosen), "seed": 0})
    print(table(rows), recommendations(rows), sep="\n\n")


def _means(rows: Sequence[Row]) -> Iterator[Row]:
    """Means over tasks with standard errors."""
    names = ("corpus", "learned_from", "strategy", "measurements")
    groups: dict[tuple[str | int | float, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    for key, own in groups.items():
        found: Row = {**dict(zip(names, key, strict=True)), "tasks": len(own)}
        for measure in MEASURES:
            mean, error = mean_and_error([float(row[measure]) for row in own])
            found |= {measure: mean, f"{measure}_standard_error": error}
        yield found


def table(rows: Sequence[Row]) -> str:
    """Hypervolume regret as Markdown: a line a corpus, source and strategy."""
    return _table(rows, MEASURES[0], ("corpus", "learned_from", "strategy"))


def recommendations(rows: Sequence[Row]) -> str:
    """Regret of the default's recommendation as Markdown: a line a corpus and source."""
    own = [row for row in rows if row["strategy"] == "default"]
    return _table(own, MEASURES[1], ("corpus", "learned_from"))


def _table(rows: Sequence[Row], measure: str, names: tuple[str, ...]) -> str:
    budgets = list(dict.fromkeys(row["measurements"] for row in rows))
    titles = {"corpus": "tried on", "learned_from": "learned from", "strategy": ""}
    lines = [[*(titles[name] for name in names), *map(str, budgets)]]
    for key in dict.fromkeys(tuple(row[name] for name in names) for row in rows):
        own = [row for row in rows if tuple(row[name] for name in names) == key]
        lines.append([*map(str, key), *(f"{float(row[measure]):.4f}" for row in own)])
    return markdown(lines)


def _drawn(rows: Sequence[Row]) -> Figure:
    """Regret and relative error against measurements: a column a corpus, a colour a source."""
    corpora = list(dict.fromkeys(str(row["corpus"]) for row in rows))
    colours = {name: f"C{number}" for number, name in enumerate((*corpora, ALL, COLD))}
    figure, grid = looks.panels(2, len(corpora), figsize=(looks.WIDTH, 4.5), sharex=True)
    for column, corpus in enumerate(corpora):
        inside = [r for r in rows if r["corpus"] == corpus]
        for axes, measure in zip(grid[:, column], (MEASURES[0], MEASURES[2]), strict=True):
            for source, strategy in dict.fromkeys(
                (r["learned_from"], r["strategy"]) for r in inside
            ):
                own = [
                    r for r in inside if (r["learned_from"], r["strategy"]) == (source, strategy)
                ]
                if strategy == "default" or measure == MEASURES[0]:
                    name = corpus if source == SAME else str(source)
                    axes.plot(
                        [r["measurements"] for r in own],
                        [float(r[measure]) for r in own],
                        "-" if strategy == "default" else ":",
                        color=colours[name],
                        label=f"learned from {name}",
                    )
        looks.logarithmic(grid[0, column])
        grid[0, column].set_title(f"tried on {corpus.partition('-')[0]}")
        grid[1, column].set(xlabel="measurements")
    looks.legend(figure, grid[1, 0], "lower", columns=2)
    grid[0, 0].set(ylabel="hypervolume regret")
    grid[1, 0].set(ylabel="relative error of the prediction")
    return figure


if __name__ == "__main__":
    main()
