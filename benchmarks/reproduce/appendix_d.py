"""Appendix D: on how many tasks' frontiers a configuration lies.

The paper's counts are those of `nondominated`: of two configurations that are equal in error and in
memory neither counts. `frontier` keeps the first of them, and both of two equals are Pareto optimal
by the paper's Section 2. All three are counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from anchors import Anchor, claim, number
from common import ORANGE, WIDTH, is_authors, label, start
from numpy.typing import NDArray

from optuna_peppp import ErrorMatrix, pareto

SHOWN = 15
PAPER = {
    ("1-4-1", "1-6-7"): "60",
    ("1-4-1", "1-7-7"): "33",
    ("1-3-1", "1-7-7"): "30",
    ("1-4-2", "1-6-7"): "24",
    ("1-5-2", "1-6-7"): "21",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Table, picture, anchors."""
    script = start(__file__, __doc__, argv)
    corpus = script.corpus
    counts = frontier_counts(corpus)
    order = np.argsort(-counts["nondominated"], kind="stable")
    names = [label(corpus.space, int(j)) for j in order]

    script.write_table(
        [
            {"configuration": name, **{kind: count[j] for kind, count in counts.items()}}
            for name, j in zip(names, order, strict=True)
        ]
    )
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
    axes.set_yticks(places, names[: len(shown)])
    axes.invert_yaxis()
    axes.set(
        xlabel=f"tasks on whose frontier it lies, of {len(corpus.tasks)}",
        ylabel="Format A / Format B",
    )
    # Above the bars, whatever their length.
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    script.write_picture(figure)
    script.finish(anchors(corpus, counts) if is_authors(corpus) else [])


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


def anchors(corpus: ErrorMatrix, counts: dict[str, NDArray[np.int_]]) -> list[Anchor]:
    """The paper's list, and whom it leaves out."""
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


if __name__ == "__main__":
    main()
