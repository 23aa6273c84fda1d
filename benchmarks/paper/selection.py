"""Figure 12: the error of the selected configuration, relative to ED-MF's, in Setting IV.

On the ten ImageNet partitions of the paper's Appendix E.5, which seem to be the figure's. Selected
is the configuration with the highest allowable memory of the predicted frontier; shown is its true
error, the mean over samples of meta-training and over random choices.

Three measurements, at rank 3, which they determine. Bayesian optimization has then chosen nothing:
its first five configurations are random-MF's. After eight it has chosen three.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from benchmarks.harness import looks
from benchmarks.harness.looks import BLUE, PINK, WIDTH
from benchmarks.harness.tables import Row
from benchmarks.paper import authors
from benchmarks.paper.anchors import Anchor, claim
from benchmarks.paper.baselines import BAYESIAN, RANDOM_STARTS, highest_memory
from benchmarks.paper.comparison import STYLES
from benchmarks.paper.script import Script
from benchmarks.paper.settings import (
    FRACTION,
    SETTINGS,
    TEXT_RANK,
    authors_split,
    plain_frontier,
)
from optuna_peppp import ErrorMatrix
from optuna_peppp.acquisition.strategies import PAPER
from optuna_peppp.evaluation.leave_one_out import Evaluation
from optuna_peppp.evaluation.splits import Split

NAMES: Final = (
    *("anthropoid ape", "elasmobranch", "shorebird", "housing", "foodstuff", "substance"),
    *("spider", "percussion instrument", "New World monkey", "big cat"),
)
"""Of n02470899, n01482071, n02022684, n03546340, n07566340, n00019613, n01772222, n03915437,
n02489589, n02127808."""

COUNTS: Final = (3, 8)
HIGHEST: Final = "highest-memory"
SHAPES: Final = {**STYLES, HIGHEST: ("random highest-memory", PINK, "")}


@dataclass(frozen=True, slots=True)
class Selection:
    """The true error of what one technique selects on one task, and what it measured for that."""

    way: str
    task: str
    technique: str
    measurements: int
    error: float
    relative_memory: float


def figure_12(script: Script) -> list[Anchor]:
    """What every technique selects, on ten tasks."""
    corpus = script.corpus
    partitions = [f"ImageNet ({name})" for name in NAMES]
    tasks = partitions if set(partitions) <= set(corpus.tasks) else corpus.tasks[: len(NAMES)]
    seeds = 1 if script.quick else 5
    found = [
        selection
        for task in tasks
        for seed in range(seeds)
        for selection in selections(corpus, corpus.tasks.index(task), seed)
    ]
    rows = relative(found)

    script.results.table(rows)
    figure, grid = looks.panels(2, 2, figsize=(WIDTH, 5.6), sharey=True)
    for (way, count), ax in zip(product(("authors", "plain"), COUNTS), grid.flat, strict=True):
        shown = [row for row in rows if (row["way"], row["measurements"]) == (way, count)]
        _draw(ax, shown, count)
        same = "" if count > RANDOM_STARTS else "\n(BO is random-MF)"
        ax.set_title(f"{way}, {count} measurements{same}")
    for ax in grid[-1]:
        ax.set_xlabel("error relative to ED-MF's")
    looks.legend(figure, grid[0, 1])
    script.results.picture(figure)
    return script.finish(_anchors(rows) if script.authors else [], seeds=seeds)


def selections(corpus: ErrorMatrix, row: int, seed: int) -> Iterator[Selection]:
    """All techniques, by both ways, after the same samples of meta-training for all."""
    setting = SETTINGS["IV"]
    cap = setting.cap(corpus)
    plain = {**PAPER, **BAYESIAN}
    rank = min(TEXT_RANK, len(corpus.tasks) - 1)
    evaluation = Evaluation(corpus, plain, memory_cap=cap, fraction=FRACTION, rank=rank, seed=seed)

    def last(task: Split, measured: list[int]) -> int:
        return int(authors.frontier(task, measured)[-1])

    def recommended(task: Split, measured: list[int]) -> int:
        frontier = plain_frontier(task, measured)
        return int(frontier[task.considered[frontier]][-1])

    for way, task, techniques, select in (
        ("authors", authors_split(corpus, row, setting, seed, rank), authors.TECHNIQUES, last),
        ("plain", evaluation.split(row), plain, recommended),
    ):
        considered = task.memory[task.considered].sum()
        for name, technique in techniques.items():
            order = authors.measure(task, technique, COUNTS[-1], seed)
            for count in COUNTS:
                measured = order[:count]
                error = float(task.errors[select(task, measured)])
                share = float(task.memory[measured].sum() / considered)
                yield Selection(way, corpus.tasks[row], name, count, error, share)
        index = highest_memory(task.memory, task.considered, seed)
        for count in COUNTS:
            error = float(task.errors[index])
            yield Selection(way, corpus.tasks[row], HIGHEST, count, error, 0.0)


def relative(found: Sequence[Selection]) -> list[Row]:
    """Mean errors over seeds, divided by ED-MF's; a row a way, task, technique and count."""
    groups: dict[tuple[str, str, str, int], list[Selection]] = {}
    for s in found:
        groups.setdefault((s.way, s.task, s.technique, s.measurements), []).append(s)
    errors = {key: np.mean([s.error for s in group]) for key, group in groups.items()}
    return [
        {
            "way": way,
            "task": task,
            "technique": technique,
            "measurements": count,
            "relative_error": float(errors[key] / errors[way, task, "ed-mf", count]),
            "relative_memory": float(np.mean([s.relative_memory for s in group])),
        }
        for key, group in groups.items()
        for way, task, technique, count in [key]
    ]


def _column(rows: Sequence[Row], technique: str, name: str) -> NDArray[np.float64]:
    return np.array([float(row[name]) for row in rows if row["technique"] == technique])


def _draw(ax: Axes, rows: Sequence[Row], count: int) -> None:
    """A line a task, a mark a technique; before its first choice BO is random-MF."""
    tasks = list(dict.fromkeys(str(row["task"]) for row in rows))
    for technique, (name, color, line) in SHAPES.items():
        chosen = not technique.startswith("bo-") or count > RANDOM_STARTS
        errors = _column(rows, technique, "relative_error")
        if chosen and errors.size and technique not in ("ed-mf", "qr-mf"):
            face = "none" if line == ":" else color
            places = range(len(tasks))
            ax.scatter(errors, places, label=name, s=18, facecolors=face, edgecolors=color)
    ax.axvline(1, color=BLUE, linewidth=0.8)
    ax.set_yticks(range(len(tasks)), [re.sub(r"ImageNet \((.*)\)", r"\1", task) for task in tasks])


def _anchors(rows: Sequence[Row]) -> list[Anchor]:
    found = []
    for way, count in product(("authors", "plain"), COUNTS):
        shown = [row for row in rows if (row["way"], row["measurements"]) == (way, count)]
        # Before its first choice BO is random-MF.
        bayesian = ("bo-mf", "bo-full") if count > RANDOM_STARTS else ()
        rivals = ("random-mf", *bayesian, HIGHEST)
        ratios = {rival: _column(shown, rival, "relative_error") for rival in rivals}
        above = np.concatenate(list(ratios.values())) > 1
        means = ", ".join(f"{SHAPES[rival][0]} {v.mean():.3f}" for rival, v in ratios.items())
        spent = _column(shown, "ed-mf", "relative_memory").mean()
        found.append(
            claim(
                f"selected configuration after {count} measurements, {way} (Figure 12)",
                "ED-MF outperforms in most cases",
                f"in {above.sum()} of {above.size}; times its error: {means}",
                bool(above.mean() > 0.5),
                f"a case is a task and a technique; ED-MF spent {spent:.0%} of the memory"
                + "; BO has chosen nothing yet and is random-MF" * (not bayesian),
            )
        )
    return found
