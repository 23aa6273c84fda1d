"""What the scripts of this folder share: arguments, the style of pictures, the way of results.

A script calls :func:`start`, computes, and writes in this order: tables, pictures, and with
:meth:`Script.finish` the anchors and a JSON with versions, hardware and settings.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from anchors import Anchor, write_anchors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from optuna_peppp import ConfigurationSpace, ErrorMatrix, load_corpus, pareto

BENCHMARKS: Final = Path(__file__).resolve().parents[1]
# A script that is run finds its own folder only; environment.py is one above.
sys.path.append(str(BENCHMARKS))
from environment import describe  # noqa: E402

AUTHORS_CORPUS: Final = BENCHMARKS.parents[1] / "shared" / "data" / "peppp" / "corpus.csv"
RESULTS: Final = BENCHMARKS / "results" / "reproduce"
MIB: Final = 2**20
"""Bytes. The paper's MB are these."""

WIDTH: Final = 6.0
"""Inches: 900 pixels, a README's width."""

# Okabe and Ito's colours, which the colour-blind can tell apart.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PINK = "#0072B2", "#D55E00", "#CC79A7"
GREY: Final = "0.65"

matplotlib.use("Agg")
plt.rcParams.update(
    {
        "axes.prop_cycle": f"cycler(color={[BLUE, ORANGE, GREEN, RED, PINK, SKY, BLACK]})",
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 9,
        "figure.constrained_layout.use": True,
        "font.size": 8,
        "legend.frameon": False,
        "savefig.dpi": 150,
    }
)

_FAMILIES: Final = {"CIFAR10": 21, "CIFAR100 (": 20, "ImageNet (": 50}
"""How many of the 87 names of Table 2 start so; CIFAR100's start like CIFAR10."""


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """One run of one script: what it works on and where its results go.

    Attributes:
        name: The script's, and its results': ``figure_01``.
        corpus: Errors and memory of n tasks, none missing.
        corpus_name: Stem of the corpus's file, or its name.
        lr_corpus: The learning-rate-tuned corpus, None where there is none (see lr.py).
        quick: Whether to do a smaller version.
        output: Folder of the results.
    """

    name: str
    corpus: ErrorMatrix
    corpus_name: str
    lr_corpus: Path | None
    quick: bool
    output: Path

    @property
    def example(self) -> int:
        """Row of the task that the paper singles out, CIFAR-10; the first where it is missing."""
        return self.corpus.tasks.index("CIFAR10") if "CIFAR10" in self.corpus.tasks else 0

    def write_table(self, rows: Sequence[Mapping[str, object]], part: str = "") -> None:
        """Writes ``rows``, at least one, as CSV.

        ``part`` names a second table; ``points`` is for what repeats single entries of a corpus,
        which git ignores.
        """
        with self._path(part, "csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def write_picture(self, figure: Figure, part: str = "") -> None:
        """Writes ``figure`` as PNG and closes it."""
        figure.savefig(self._path(part, "png"))
        plt.close(figure)

    def finish(self, anchors: Iterable[Anchor], **settings: object) -> None:
        """Writes what it ran on, with ``settings`` such as seeds, and the anchors; prints them."""
        record = {"corpus": self.corpus_name, "quick": self.quick, **settings, **describe()}
        self._path("", "json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        found = list(anchors)
        path = self._path("anchors", "csv")
        if found:
            write_anchors(path, found)
        else:
            path.unlink(missing_ok=True)
        print(f"{self.name}: {len(found)} anchors" if found else f"{self.name}: done")
        for anchor in found:
            print(f"  {anchor.verdict}: {anchor.result}: paper {anchor.paper}, ours {anchor.ours}")

    def _path(self, part: str, suffix: str) -> Path:
        return self.output / f"{self.name}{'_' * bool(part)}{part}.{suffix}"


def start(file: str, description: str | None, argv: Sequence[str] | None = None) -> Script:
    """The run that the command line asks for.

    Args:
        file: The script's ``__file__``.
        description: The script's docstring, for its ``--help``.
        argv: The arguments, by default those of the process.

    Raises:
        SystemExit: The arguments are wrong or the corpus cannot be used; the reason is printed.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--corpus",
        default=str(AUTHORS_CORPUS),
        help="a CSV file, or the name of a corpus that ships (default: the authors', %(default)s)",
    )
    parser.add_argument(
        "--lr-corpus",
        type=Path,
        help="the learning-rate-tuned corpus, CSV (default: corpus-lr.csv beside --corpus)",
    )
    parser.add_argument("--quick", action="store_true", help="a smaller version of what is slow")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of the results (default: results/reproduce/ and the corpus's name, with "
        "-quick after it where that was asked for)",
    )
    arguments = parser.parse_args(argv)
    path = Path(arguments.corpus)
    is_file = path.suffix == ".csv" or path.exists()
    try:
        corpus = _complete(ErrorMatrix.read_csv(path) if is_file else load_corpus(str(path)))
    except (OSError, ValueError) as problem:
        parser.error(f"--corpus: {problem}")
    lr_corpus: Path | None = arguments.lr_corpus
    if lr_corpus is None and is_file:
        beside = path.with_name("corpus-lr.csv")
        lr_corpus = beside if beside.is_file() else None
    # A quick run leaves the results of a full one alone.
    output = arguments.output or RESULTS / (path.stem + "-quick" * arguments.quick)
    output.mkdir(parents=True, exist_ok=True)
    return Script(Path(file).stem, corpus, path.stem, lr_corpus, arguments.quick, output)


def _complete(corpus: ErrorMatrix) -> ErrorMatrix:
    missing = np.count_nonzero(np.isnan(corpus.errors) | np.isnan(corpus.memory))
    if missing:
        raise ValueError(
            f"all entries are needed, as the truth to compare with; {missing} of "
            f"{corpus.errors.size} miss their error or memory. Leave their tasks out"
        )
    return corpus


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
