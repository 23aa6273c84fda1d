"""Figure 12: the error of the selected configuration, relative to ED-MF's, in Setting IV.

On the ten ImageNet partitions of the paper's Appendix E.5, which seem to be the figure's. Selected
is the configuration with the highest allowable memory of the predicted frontier; shown is its true
error, the mean over samples of meta-training and over random choices.

Three measurements, at rank 3, which they determine. Bayesian optimization has then chosen nothing:
its first five configurations are random-MF's. After eight it has chosen three.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import authors
import matplotlib.pyplot as plt
import numpy as np
from anchors import Anchor, claim
from common import BLUE, PINK, WIDTH, is_authors, start
from comparison import STYLES
from matplotlib.axes import Axes
from settings import FRACTION, SETTINGS, TEXT_RANK, authors_split, plain_frontier

from optuna_peppp import ErrorMatrix
from optuna_peppp.acquisition.strategies import PAPER
from optuna_peppp.evaluation.leave_one_out import Evaluation
from optuna_peppp.evaluation.splits import Split

# isort: split
from baselines import BAYESIAN, RANDOM_STARTS, highest_memory

NAMES: Final = (
    *("anthropoid ape", "elasmobranch", "shorebird", "housing", "foodstuff", "substance"),
    *("spider", "percussion instrument", "New World monkey", "big cat"),
)
"""Of n02470899, n01482071, n02022684, n03546340, n07566340, n00019613, n01772222, n03915437,
n02489589, n02127808."""

COUNTS: Final = (3, 8)
SEEDS: Final = 5
QUICK_SEEDS: Final = 1
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


def main(argv: Sequence[str] | None = None) -> None:
    """Table, picture, anchors."""
    script = start(__file__, __doc__, argv)
    corpus = script.corpus
    partitions = [f"ImageNet ({name})" for name in NAMES]
    tasks = partitions if set(partitions) <= set(corpus.tasks) else corpus.tasks[: len(NAMES)]
    seeds = QUICK_SEEDS if script.quick else SEEDS
    found = [
        selection
        for task in tasks
        for seed in range(seeds)
        for selection in selections(corpus, corpus.tasks.index(task), seed)
    ]
    rows = relative(found)

    script.write_table(rows)
    figure, grid = plt.subplots(2, 2, figsize=(WIDTH, 5.6), sharey=True)
    for way, axes in zip(("authors", "plain"), grid, strict=True):
        for count, ax in zip(COUNTS, axes, strict=True):
            shown = [row for row in rows if (row["way"], row["measurements"]) == (way, count)]
            draw(ax, shown)
            same = "" if count > RANDOM_STARTS else "\n(BO is random-MF)"
            ax.set_title(f"{way}, {count} measurements{same}")
    for ax in grid[-1]:
        ax.set_xlabel("error relative to ED-MF's")
    handles, labels = grid[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    script.write_picture(figure)
    script.finish(anchors(rows) if is_authors(corpus) else [], seeds=seeds)


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


def relative(found: Sequence[Selection]) -> list[dict[str, str | int | float]]:
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
            "relative_error": float(error / errors[way, task, "ed-mf", count]),
            "relative_memory": float(
                np.mean([s.relative_memory for s in groups[way, task, technique, count]])
            ),
        }
        for (way, task, technique, count), error in errors.items()
    ]


def draw(ax: Axes, rows: Sequence[Mapping[str, str | int | float]]) -> None:
    """A line a task, a mark a technique."""
    tasks = list(dict.fromkeys(str(row["task"]) for row in rows))
    for technique, (name, color, line) in SHAPES.items():
        of_technique = [row for row in rows if row["technique"] == technique]
        count = max((int(row["measurements"]) for row in of_technique), default=0)
        # Before its first choice BO is random-MF.
        chosen = not technique.startswith("bo-") or count > RANDOM_STARTS
        if chosen and technique not in ("ed-mf", "qr-mf"):
            ax.scatter(
                [float(row["relative_error"]) for row in of_technique],
                [tasks.index(str(row["task"])) for row in of_technique],
                label=name,
                s=18,
                facecolors="none" if line == ":" else color,
                edgecolors=color,
            )
    ax.axvline(1, color=BLUE, linewidth=0.8)
    ax.set_yticks(range(len(tasks)), [re.sub(r"ImageNet \((.*)\)", r"\1", task) for task in tasks])


def anchors(rows: Sequence[Mapping[str, str | int | float]]) -> list[Anchor]:
    """What the caption says."""
    found = []
    for way in ("authors", "plain"):
        for count in COUNTS:
            shown = [row for row in rows if (row["way"], row["measurements"]) == (way, count)]
            # Before its first choice BO is random-MF.
            bayesian = ("bo-mf", "bo-full") if count > RANDOM_STARTS else ()
            ratios = {
                rival: np.array(
                    [float(row["relative_error"]) for row in shown if row["technique"] == rival]
                )
                for rival in ("random-mf", *bayesian, HIGHEST)
            }
            above = np.concatenate(list(ratios.values())) > 1
            means = ", ".join(
                f"{SHAPES[rival][0]} {values.mean():.3f}" for rival, values in ratios.items()
            )
            spent = np.mean(
                [row["relative_memory"] for row in shown if row["technique"] == "ed-mf"]
            )
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


if __name__ == "__main__":
    main()
