"""What the figures share: the corpus, the learning-rate-tuned one, and the way of results.

A figure computes, and writes in this order: tables, pictures, and with :meth:`Script.finish` the
anchors and a JSON with versions, hardware and settings.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from benchmarks.harness import script, tasks
from benchmarks.harness.looks import BLUE, GREY
from benchmarks.harness.script import Results
from benchmarks.paper import learning_rates
from benchmarks.paper.anchors import Anchor, write_anchors
from optuna_peppp import ConfigurationSpace, ErrorMatrix, pareto

MIB: Final = 2**20
"""Bytes. The paper's MB are these."""

_FAMILIES: Final = {"CIFAR10": 21, "CIFAR100 (": 20, "ImageNet (": 50}
"""How many of the 87 names of Table 2 start so; CIFAR100's start like CIFAR10."""


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """One figure: what it works on and where its results go.

    Attributes:
        results: Its files.
        corpus: Errors and memory of n tasks, none missing.
        corpus_name: Stem of the corpus's file, or its name.
        joint: The learning-rate-tuned corpus, None where there is none (see learning_rates.py).
        quick: Whether to do a smaller version.
    """

    results: Results
    corpus: ErrorMatrix
    corpus_name: str
    joint: ErrorMatrix | None
    quick: bool

    @property
    def example(self) -> int:
        """Row of the task that the paper singles out, CIFAR-10; the first where it is missing."""
        return self.corpus.tasks.index("CIFAR10") if "CIFAR10" in self.corpus.tasks else 0

    @property
    def authors(self) -> bool:
        """Whether the corpus is what the paper's authors measured."""
        return is_authors(self.corpus)

    @property
    def tuned(self) -> ErrorMatrix:
        """The learning-rate-tuned corpus.

        Raises:
            ValueError: There is none.
        """
        if self.joint is None:
            raise ValueError("there is no learning-rate-tuned corpus; name one with --lr-corpus")
        return self.joint

    def finish(self, anchors: Iterable[Anchor], **settings: object) -> list[Anchor]:
        """Writes the anchors, and what it ran on with ``settings`` such as seeds."""
        self.results.record({"corpus": self.corpus_name, "quick": self.quick, **settings})
        found, path = list(anchors), self.results.path("csv", "anchors")
        if found:
            write_anchors(path, found)
        else:
            path.unlink(missing_ok=True)
        return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --corpus and --lr-corpus."""
    tasks.add_corpus(parser, str(script.DATA / "peppp" / "corpus.csv"))
    parser.add_argument(
        "--lr-corpus", help="learning-rate-tuned corpus (default: corpus-lr.csv beside --corpus)"
    )


def start(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Script:
    """What the command line asks for, without a figure yet; ends the program with the reason."""
    corpus, path = tasks.corpus(parser, options.corpus), Path(options.corpus)
    missing = np.count_nonzero(np.isnan(corpus.errors + corpus.memory))
    if missing:
        parser.error(
            f"--corpus: all entries are needed, as the truth to compare with; {missing} of "
            f"{corpus.errors.size} miss their error or memory. Leave their tasks out"
        )
    beside = path.with_name("corpus-lr.csv")
    lr_corpus = options.lr_corpus or (
        str(beside) if path.suffix == ".csv" and beside.is_file() else None
    )
    try:
        joint = None if lr_corpus is None else learning_rates.read(lr_corpus)
    except (OSError, ValueError) as problem:
        parser.error(f"--lr-corpus: {problem}")
    folder = script.folder(options, f"reproduce/{path.stem}")
    return Script(Results(folder, ""), corpus, path.stem, joint, options.quick)


def is_authors(corpus: ErrorMatrix) -> bool:
    """Whether this is the matrix that the paper's authors measured (Table 2 by Tables 3 and 4)."""
    families = [sum(name.startswith(kind) for name in corpus.tasks) for kind in _FAMILIES]
    return (
        corpus.space == ConfigurationSpace.paper()
        and len(corpus.tasks) == 87
        and families == list(_FAMILIES.values())
    )


def label(space: ConfigurationSpace, index: int) -> str:
    """A configuration in a few characters: ``1-4-1 / 1-6-7``."""
    return " / ".join(map(str, space.params(index).values()))


def draw_frontier(axes: Axes, memory: NDArray[np.float64], errors: NDArray[np.float64]) -> None:
    """Error against memory of one task, bytes and errors of shape (d,), frontier marked."""
    points = np.column_stack([memory / MIB, errors])
    marked = pareto.nondominated(points)
    for shown, size, color, name in (
        (~marked, 12, GREY, "dominated"),
        (marked, 22, BLUE, "non-dominated"),
    ):
        axes.scatter(points[shown, 0], points[shown, 1], s=size, color=color, label=name)
    axes.set(xlabel="memory of the training (MiB)", ylabel="test error")
    # Under the axes, where it covers no data.
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, columnspacing=1)
