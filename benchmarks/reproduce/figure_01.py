"""Figure 1: error against memory on CIFAR-10, and the best configuration at every memory cap.

(a) All configurations on one task; marked are those that no other equals or betters in both. (b)
Under a memory cap a task's winner is its feasible configuration of the lowest error (of equal ones
the smallest in memory); shown is the configuration that wins on most tasks. Tasks differ in memory
by their images' resolution: a cap is a share of the way from a task's smallest to its largest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from anchors import Anchor, claim
from common import WIDTH, draw_frontier, is_authors, label, start
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from optuna_peppp import ErrorMatrix, pareto

CAPS = np.linspace(0, 1, 101)


def main(argv: Sequence[str] | None = None) -> None:
    """Tables, picture, anchors."""
    script = start(__file__, __doc__, argv)
    corpus, row = script.corpus, script.example
    points = np.column_stack([corpus.memory[row], corpus.errors[row]])
    marked = pareto.nondominated(points)
    winners = [most_frequent_winner(corpus, cap) for cap in CAPS]

    script.write_table(
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
    script.write_table(
        [
            {"memory_cap": f"{cap:.2f}", "winner": label(corpus.space, winner), "tasks_won": won}
            for cap, (winner, won) in zip(CAPS, winners, strict=True)
        ]
    )
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.1), width_ratios=(1, 1.1))
    draw_frontier(left, corpus.memory[row], corpus.errors[row])
    left.set_title(f"(a) {corpus.tasks[row]}")
    names = [label(corpus.space, winner) for winner, _ in winners]
    draw_winners(right, names, np.array([won for _, won in winners]) / len(corpus.tasks))
    right.set_title(f"(b) most frequent winner of {len(corpus.tasks)} tasks")
    script.write_picture(figure)
    script.finish(anchors(names) if is_authors(corpus) else [])


def most_frequent_winner(corpus: ErrorMatrix, cap: float) -> tuple[int, int]:
    """The configuration that wins on most tasks under ``cap`` in [0, 1], and on how many."""
    wins: Counter[int] = Counter()
    for errors, memory in zip(corpus.errors, corpus.memory, strict=True):
        (feasible,) = np.nonzero(memory <= memory.min() + cap * np.ptp(memory))
        wins[int(feasible[np.lexsort((memory[feasible], errors[feasible]))[0]])] += 1
    return max(wins.items(), key=lambda item: (item[1], -item[0]))


def draw_winners(axes: Axes, names: list[str], shares: NDArray[np.float64]) -> None:
    """The winner at every cap; the darker, the larger its share of the tasks."""
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


def anchors(names: list[str]) -> list[Anchor]:
    """What the figure says in words."""
    different = len(set(names))
    return [
        claim(
            "best precision varies with the memory budget (Figure 1b)",
            "yes",
            f"yes: {different} configurations win most often somewhere",
            different > 1,
            "a budget counted from a task's smallest memory to its largest",
        )
    ]


if __name__ == "__main__":
    main()
