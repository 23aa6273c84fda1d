"""Which configurations are best: Figures 1 and 20, and the counts of Appendix D."""

from __future__ import annotations

from collections import Counter
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import NDArray
from scipy.stats import kendalltau

from benchmarks.harness.looks import ORANGE, WIDTH
from benchmarks.harness.tables import Row
from benchmarks.paper import learning_rates
from benchmarks.paper.anchors import Anchor, claim, not_tested, number
from benchmarks.paper.script import Script, draw_frontier, label
from optuna_peppp import ErrorMatrix, pareto

CAPS: Final = np.linspace(0, 1, 101)
SHOWN: Final = 15
PAPER: Final = {
    ("1-4-1", "1-6-7"): "60",
    ("1-4-1", "1-7-7"): "33",
    ("1-3-1", "1-7-7"): "30",
    ("1-4-2", "1-6-7"): "24",
    ("1-5-2", "1-6-7"): "21",
}


def figure_01(script: Script) -> list[Anchor]:
    """Error against memory on CIFAR-10 (a); the best configuration at every memory cap (b).

    (a) Marked are configurations that no other equals or betters in both. (b) Under a cap a task's
    winner is its feasible configuration of the lowest error (of equal ones the smallest in memory);
    shown is the configuration that wins on most tasks. Tasks differ in memory by their images'
    resolution: a cap is a share of the way from a task's smallest to its largest.
    """
    corpus, row = script.corpus, script.example
    points = np.column_stack([corpus.memory[row], corpus.errors[row]])
    marked = pareto.nondominated(points)
    winners = [most_frequent_winner(corpus, cap) for cap in CAPS]

    script.results.table(
        [
            {
                "configuration": label(corpus.space, j),
                "memory": memory,
                "error": error,
                "nondominated": bool(marked[j]),
            }
            for j, (memory, error) in enumerate(points.tolist())
        ],
        "points",
    )
    script.results.table(
        [
            {"memory_cap": f"{cap:.2f}", "winner": label(corpus.space, winner), "tasks_won": won}
            for cap, (winner, won) in zip(CAPS, winners, strict=True)
        ]
    )
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.1), width_ratios=(1, 1.1))
    draw_frontier(left, corpus.memory[row], corpus.errors[row])
    left.set_title(f"(a) {corpus.tasks[row]}")
    names = [label(corpus.space, winner) for winner, _ in winners]
    _draw_winners(right, names, np.array([won for _, won in winners]) / len(corpus.tasks))
    right.set_title(f"(b) most frequent winner of {len(corpus.tasks)} tasks")
    script.results.picture(figure)
    different = len(set(names))
    best = claim(
        "best precision varies with the memory budget (Figure 1b)",
        "yes",
        f"yes: {different} configurations win most often somewhere",
        different > 1,
        "a budget counted from a task's smallest memory to its largest",
    )
    return script.finish([best] if script.authors else [])


def most_frequent_winner(corpus: ErrorMatrix, cap: float) -> tuple[int, int]:
    """The configuration that wins on most tasks under ``cap`` in [0, 1], and on how many."""
    wins: Counter[int] = Counter()
    for errors, memory in zip(corpus.errors, corpus.memory, strict=True):
        (feasible,) = np.nonzero(memory <= memory.min() + cap * np.ptp(memory))
        wins[int(feasible[np.lexsort((memory[feasible], errors[feasible]))[0]])] += 1
    return max(wins.items(), key=lambda item: (item[1], -item[0]))


def _draw_winners(axes: Axes, names: list[str], shares: NDArray[np.float64]) -> None:
    # The darker, the larger the share of the tasks that the winner has.
    ranks = {name: rank for rank, name in enumerate(dict.fromkeys(names))}
    # A cap holds up to the next; the last is widened to be seen.
    axes.barh(
        [ranks[name] for name in names],
        100 * np.diff(CAPS, append=1.01),
        left=100 * CAPS,
        color=plt.get_cmap("viridis_r")(shares),
    )
    axes.set_yticks(range(len(ranks)), list(ranks))
    axes.set(xlabel="memory cap (% of a task's range)", ylabel="Format A / Format B")
    scale = ScalarMappable(Normalize(0, 1), "viridis_r")
    plt.colorbar(scale, ax=axes, label="share of tasks won")


def figure_20(script: Script) -> list[Anchor]:
    """Error against memory with one learning rate, and with the best of three.

    (a) The learning rate in the middle, 0.001, for all configurations; (b) for every configuration
    the one of its lowest test error. The authors published no tuned learning rates on CIFAR-10: the
    picture shows the first task of their learning-rate-tuned matrix, the table all of its tasks.
    """
    matrix = script.tuned
    rates = learning_rates.rates(matrix)
    middle = rates[len(rates) // 2]
    space, where = learning_rates.columns(matrix, middle)
    # Tasks that were not measured at the learning rate in the middle cannot be compared.
    kept = np.flatnonzero(matrix.observed[:, where].all(axis=1))
    tasks = [matrix.tasks[i] for i in kept]
    # The learning rate costs no memory.
    memory, fixed = matrix.memory[np.ix_(kept, where)], matrix.errors[np.ix_(kept, where)]
    at_all = [
        matrix.errors[np.ix_(kept, learning_rates.columns(matrix, rate)[1])] for rate in rates
    ]
    tuned = np.nanmin(at_all, axis=0)

    script.results.table(
        [
            {
                "configuration": label(space, j),
                "memory": memory[0, j],
                "error_fixed": fixed[0, j],
                "error_tuned": tuned[0, j],
            }
            for j in range(len(space))
        ],
        "points",
    )
    rows: list[Row] = [
        {
            "task": task,
            "median_error_fixed": float(np.median(fixed[i])),
            "median_error_tuned": float(np.median(tuned[i])),
            "tau_memory_error_fixed": float(kendalltau(memory[i], fixed[i]).statistic),
            "tau_memory_error_tuned": float(kendalltau(memory[i], tuned[i]).statistic),
        }
        for i, task in enumerate(tasks)
    ]
    script.results.table(rows)
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.1), sharey=True)
    draw_frontier(left, memory[0], fixed[0])
    draw_frontier(right, memory[0], tuned[0])
    left.set(title=f"(a) learning rate {middle:g}", ylabel=f"test error, {tasks[0]}")
    right.set(title=f"(b) best of {len(at_all)} learning rates", ylabel="")
    script.results.picture(figure)
    gains = [float(row["median_error_fixed"]) - float(row["median_error_tuned"]) for row in rows]
    taus = [float(row["tau_memory_error_tuned"]) for row in rows]
    theirs = learning_rates.is_authors(matrix)
    return script.finish(_on_rates(gains, taus) if theirs else [], task=tasks[0])


def _on_rates(gains: list[float], taus: list[float]) -> list[Anchor]:
    """Gains in the median error and Kendall's tau, one per task."""
    note = "on the tasks of the tuned matrix, which is without CIFAR-10"
    return [
        not_tested(
            "trade-off with the best of three learning rates on CIFAR-10 (Figure 20b)",
            "drawn",
            "the authors published no tuned rates on CIFAR-10; the picture shows another task",
        ),
        claim(
            "errors with tuned learning rates (Appendix E.4.2)",
            "in general smaller",
            f"median {min(gains):.3f} to {max(gains):.3f} lower",
            min(gains) > 0,
            note,
        ),
        claim(
            "higher memory, lower error, with tuned learning rates (Appendix E.4.2)",
            "in general",
            f"Kendall's tau of memory and error {min(taus):.2f} to {max(taus):.2f}, negative on "
            f"{sum(tau < 0 for tau in taus)} of {len(taus)} tasks",
            sum(tau < 0 for tau in taus) > len(taus) / 2,
            note,
        ),
    ]


def appendix_d(script: Script) -> list[Anchor]:
    """On how many tasks' frontiers a configuration lies.

    The paper's counts are those of "nondominated": of two configurations that are equal in error
    and in memory neither counts. "frontier" keeps the first of them, and both of two equals are
    Pareto optimal by the paper's Section 2. All three are counted.
    """
    corpus = script.corpus
    counts = frontier_counts(corpus)
    order = by_count(counts)
    script.results.table(count_rows(corpus, counts))
    shown = order[counts["nondominated"][order] > 0][:SHOWN]
    figure, axes = plt.subplots(figsize=(WIDTH, 3.2))
    places = np.arange(len(shown))
    axes.barh(places, counts["nondominated"][shown], label="no other is equal to it")
    ties = counts["pareto_optimal"][shown] - counts["nondominated"][shown]
    axes.barh(
        places,
        ties,
        left=counts["nondominated"][shown],
        color=ORANGE,
        label="another is equal to it",
    )
    axes.set_yticks(places, [label(corpus.space, int(j)) for j in shown])
    axes.invert_yaxis()
    axes.set(
        xlabel=f"tasks on whose frontier it lies, of {len(corpus.tasks)}",
        ylabel="Format A / Format B",
    )
    # Above the bars, whatever their length.
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    script.results.picture(figure)
    return script.finish(_on_counts(corpus, counts) if script.authors else [])


def frontier_counts(corpus: ErrorMatrix) -> dict[str, NDArray[np.int_]]:
    """For every way of counting equals: on how many frontiers, shape (d,), each lies."""
    counts = {
        kind: np.zeros(len(corpus.space), dtype=int)
        for kind in ("nondominated", "frontier", "pareto_optimal")
    }
    for errors, memory in zip(corpus.errors, corpus.memory, strict=True):
        points = np.column_stack([memory, errors])
        frontier = pareto.frontier(points)
        counts["nondominated"] += pareto.nondominated(points)
        counts["frontier"][frontier] += 1
        counts["pareto_optimal"] += (points[:, None] == points[frontier]).all(axis=2).any(axis=1)
    return counts


def by_count(counts: dict[str, NDArray[np.int_]]) -> NDArray[np.intp]:
    """The configurations, those on most frontiers first."""
    return np.argsort(-counts["nondominated"], kind="stable")


def count_rows(corpus: ErrorMatrix, counts: dict[str, NDArray[np.int_]]) -> list[Row]:
    """A row a configuration, those on most frontiers first."""
    return [
        {"configuration": label(corpus.space, int(j))}
        | {kind: int(count[j]) for kind, count in counts.items()}
        for j in by_count(counts)
    ]


def _on_counts(corpus: ErrorMatrix, counts: dict[str, NDArray[np.int_]]) -> list[Anchor]:
    found = []
    for (format_a, format_b), paper in PAPER.items():
        j = corpus.space.index({"format_a": format_a, "format_b": format_b})
        strict, first = int(counts["nondominated"][j]), int(counts["frontier"][j])
        note = "" if strict == first else f"{first} where one of equal configurations counts"
        found.append(
            number(f"frontiers with {format_a} / {format_b} (Appendix D)", paper, strict, note)
        )
    listed = {" / ".join(formats) for formats in PAPER}
    least = min(map(int, PAPER.values()))
    missing = {
        label(corpus.space, j): int(count)
        for j, count in enumerate(counts["nondominated"])
        if count >= least and label(corpus.space, j) not in listed
    }
    found.append(
        claim(
            f"further configurations on {least} frontiers or more (Appendix D)",
            "none listed",
            ", ".join(f"{name} on {count}" for name, count in missing.items()) or "none",
            not missing,
            "the smallest in memory is on every frontier: the paper's list leaves it out",
        )
    )
    return found
