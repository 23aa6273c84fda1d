"""Figure 7: meta-test on CIFAR-10 under a memory cap of 275 MB, with six measurements by ED-MF.

As the authors computed it, and as the package does. Errors are drawn as they are, not as they are
predicted: some of the configurations of a predicted frontier are dominated in truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import authors
import matplotlib.pyplot as plt
import numpy as np
from anchors import Anchor, claim
from common import BLUE, GREY, MIB, ORANGE, RED, WIDTH, Script, is_authors, label, start
from matplotlib.axes import Axes
from numpy.typing import NDArray
from settings import TEXT_RANK, plain_frontier

from optuna_peppp import pareto
from optuna_peppp.acquisition.strategies import PAPER
from optuna_peppp.evaluation.leave_one_out import Evaluation

CAP: Final = 275
"""The paper's MB are MiB elsewhere (its median memory)."""

MEASUREMENTS: Final = 6
GOOD: Final = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class MetaTest:
    """What six measurements on the example lead to; indices of configurations.

    Attributes:
        measured: In their order.
        frontier: The predicted one within the cap, by growing memory. Its last is selected.
    """

    measured: list[int]
    frontier: NDArray[np.intp]


def main(argv: Sequence[str] | None = None) -> None:
    """Tables, picture, anchors."""
    script = start(__file__, __doc__, argv)
    corpus, row = script.corpus, script.example
    memory, errors = corpus.memory[row], corpus.errors[row]
    cap = CAP * MIB if is_authors(corpus) else float(np.median(memory))
    found = {name: test(script, cap) for name, test in WAYS.items()}
    truth = pareto.frontier(np.column_stack((memory, errors)))
    best = errors[memory <= cap].min()

    script.write_table(
        [
            {
                "way": name,
                "cap": cap,
                "feasible": int((memory <= cap).sum()),
                "measured": ", ".join(label(corpus.space, j) for j in test.measured),
                "frontier": len(test.frontier),
                "dominated": len(set(test.frontier.tolist()) - set(truth.tolist())),
                "selected": label(corpus.space, test.frontier[-1]),
                "regret": errors[test.frontier[-1]] - best,
            }
            for name, test in found.items()
        ]
    )
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.4), sharey=True)
    for ax, (name, test) in zip(axes, found.items(), strict=True):
        draw(ax, memory / MIB, errors, test, cap / MIB)
        ax.set(title=name, xlabel="memory of the training (MiB)")
    axes[0].set_ylabel(f"true test error, {corpus.tasks[row]}")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    script.write_picture(figure)
    script.finish(anchors(script, found, best) if is_authors(corpus) else [], cap=cap)


def as_authors(script: Script, cap: float) -> MetaTest:
    """At rank 5, from the feasible columns; measured errors are predicted too."""
    task = authors.split(script.corpus, script.example, memory_cap=cap)
    measured = authors.measure(task, PAPER["ed-mf"], MEASUREMENTS, seed=0)
    return MetaTest(measured, authors.frontier(task, measured))


def plain(script: Script, cap: float) -> MetaTest:
    """At rank 3, from all columns; measured errors are known."""
    corpus = script.corpus
    rank = min(TEXT_RANK, len(corpus.tasks) - 1)
    task = Evaluation(corpus, PAPER, rank=rank).split(script.example)
    capped = replace(task, feasible=task.memory <= cap)
    measured = authors.measure(capped, PAPER["ed-mf"], MEASUREMENTS, seed=0)
    frontier = plain_frontier(task, measured)
    return MetaTest(measured, frontier[task.memory[frontier] <= cap])


WAYS: Final = {"authors, rank 5": as_authors, "plain, rank 3": plain}


def draw(
    ax: Axes, memory: NDArray[np.float64], errors: NDArray[np.float64], test: MetaTest, cap: float
) -> None:
    """One way's measurements, frontier and choice at the true errors; memory and cap in MiB."""
    within, selected = memory <= cap, test.frontier[-1]
    ax.scatter(memory[~within], errors[~within], s=10, color=GREY, marker="_", label="not valid")
    ax.scatter(memory[within], errors[within], s=10, color=GREY, label="valid")
    for chosen, size, color, marker, name in (
        (test.measured, 45, ORANGE, "s", "measured"),
        (test.frontier, 25, RED, "x", "estimated non-dominated"),
        ([selected], 110, BLUE, "s", "selected"),
    ):
        ax.scatter(
            memory[chosen],
            errors[chosen],
            s=size,
            marker=marker,
            facecolors=color if marker == "x" else "none",
            edgecolors=None if marker == "x" else color,
            label=name,
        )
    ax.axvline(cap, color=GREY, linestyle="--", label=f"cap, {cap:.4g} MiB")


def anchors(script: Script, found: Mapping[str, MetaTest], best: float) -> list[Anchor]:
    """What the caption says, and what MB may mean."""
    corpus, row = script.corpus, script.example
    memory, errors = corpus.memory[row], corpus.errors[row]
    truth = pareto.frontier(np.column_stack((memory, errors)))
    within = [int((memory <= CAP * unit).sum()) for unit in (MIB, 1e6)]
    result = []
    for name, test in found.items():
        other = WAYS[name](script, CAP * 1e6)
        same = [test.measured == other.measured, test.frontier[-1] == other.frontier[-1]]
        dominated = set(test.frontier.tolist()) - set(truth.tolist())
        result += [
            claim(
                f"estimated to be non-dominated, {name} (Figure 7)",
                "some are in fact dominated",
                f"{len(dominated)} of {len(test.frontier)}",
                0 < len(dominated) < len(test.frontier),
            ),
            claim(
                f"selected configuration, {name} (Figure 7)",
                "on the estimated frontier, of low true error",
                f"{label(corpus.space, test.frontier[-1])}, its true error "
                f"{errors[test.frontier[-1]] - best:.3f} above the lowest within the cap",
                bool(errors[test.frontier[-1]] - best < GOOD),
                f"low read as within {GOOD}; MB read as MiB: {within[0]} feasible configurations, "
                f"with 10^6 bytes {within[1]}, the measurements "
                f"{'the same' if same[0] else 'others'}, the selected one "
                f"{'the same' if same[1] else 'another'}",
            ),
        ]
    return result


if __name__ == "__main__":
    main()
