"""How long soft_impute takes and how much memory, against SoftImpute as published.

Matrices of rank 5 with noise, errors in [0, 1], of which 20% are observed, completed twice:

- "low": rank 5 is allowed, and shrinkage is twice the largest singular value of the noise;
- "high": no limit of the rank, and shrinkage is half of it, so that much of the noise is fitted
  too: the hard case.

The rival fills in, decomposes the whole matrix (numpy.linalg.svd) and thresholds, from zero
(paper, Algorithm 1 at one shrinkage). Both stop at the same gap, that of
optuna_peppp.completion.softimpute; either problem has one answer, and how far the two lie apart is
reported.

Every method and size runs in a process of its own, on one core, for its peak memory (interpreter
and data included). For time the two run one after the other in one process, the best of several
repeats each. On the largest matrix the rival stops after a few iterations: what it would need is
projected (column projected_seconds) with the number of iterations of the largest matrix that it
finished, and that it would find the same is checked by letting it go on from our answer.

    python -m benchmarks.speed.completion [--quick]
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import script
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row
from benchmarks.harness.turns import process
from optuna_peppp.completion.softimpute import soft_impute

RANK: Final = 5
OBSERVED: Final = 0.2
NOISE: Final = 0.02
TOLERANCE: Final = 1e-6
SEED: Final = 0
OURS, RIVAL = "soft_impute", "dense SVD"

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A problem: its size and difficulty, how often it is solved, and when the rival stops."""

    tasks: int
    configurations: int
    repeats: int
    rival_iterations: int = 10_000
    answer: Literal["low", "high"] = "low"

    @property
    def rank(self) -> int | None:
        """The rank that is allowed."""
        return RANK if self.answer == "low" else None

    @property
    def shrinkage(self) -> float:
        """From the largest singular value to expect of the observed noise."""
        sides = np.sqrt(self.tasks) + np.sqrt(self.configurations)
        noise = NOISE * np.sqrt(OBSERVED) * sides
        return float(noise * (2 if self.answer == "low" else 0.5))

    def errors(self) -> Matrix:
        """Shape (tasks, configurations), NaN = unobserved."""
        generator = np.random.default_rng(SEED)
        errors: Matrix = (
            generator.random((self.tasks, RANK)) @ generator.random((RANK, self.configurations))
        ) / RANK
        # By rows: the peak memory must be that of the method.
        for row in errors:
            row += NOISE * generator.standard_normal(len(row))
            np.clip(row, 0, 1, out=row)
            row[generator.random(len(row)) >= OBSERVED] = np.nan
        return errors


CASES: Final = (
    Case(87, 99, 20),
    Case(200, 300, 5),
    Case(500, 1000, 3),
    Case(2000, 1000, 1),
    Case(10_000, 1000, 1, rival_iterations=5),
    Case(87, 99, 5, answer="high"),
    Case(200, 300, 2, answer="high"),
    Case(500, 1000, 1, answer="high"),
    Case(10_000, 1000, 1, rival_iterations=5, answer="high"),
)
QUICK: Final = (
    *(Case(87, 99, 5), Case(200, 300, 2), Case(500, 1000, 1, rival_iterations=5)),
    *(Case(87, 99, 1, answer="high"), Case(200, 300, 1, rival_iterations=5, answer="high")),
)


class Answer(NamedTuple):
    """What a method found, after how many iterations."""

    matrix: Matrix
    iterations: int
    gap: float


def ours(case: Case, errors: Matrix) -> Answer:
    """The solution before clipping, by the library."""
    found = soft_impute(errors, shrinkage=case.shrinkage, rank=case.rank, tol=TOLERANCE)
    matrix = found.left * found.singular_values @ found.right.T
    return Answer(matrix, found.iterations, found.gap)


def rival(case: Case, errors: Matrix, start: Matrix | None = None) -> Answer:
    """The solution before clipping, by the textbook."""
    unobserved = np.isnan(errors)
    estimate = np.zeros_like(errors) if start is None else start
    iterations, gap = 0, np.inf
    while gap > TOLERANCE and iterations < case.rival_iterations:
        iterations += 1
        u, values, vt = np.linalg.svd(np.where(unobserved, estimate, errors), full_matrices=False)
        before = estimate
        estimate = (u * np.maximum(values - case.shrinkage, 0))[:, : case.rank] @ vt[: case.rank]
        # A step of 1 leaves this subgradient.
        gap = float(np.linalg.norm((estimate - before)[unobserved])) / case.shrinkage
    return Answer(estimate, iterations, gap)


METHODS: Final[dict[str, Callable[[Case, Matrix], Answer]]] = {OURS: ours, RIVAL: rival}


def peak(case: Case, method: str) -> float:
    """Peak memory of this process after one solution, MB."""
    # The rival needs the same memory in every iteration.
    METHODS[method](replace(case, rival_iterations=2), case.errors())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def compare(case: Case) -> list[Row]:
    """A row a method: time, iterations, and how far the answers lie apart."""
    errors = case.errors()
    answers, seconds = {}, dict.fromkeys(METHODS, np.inf)
    for _ in range(case.repeats):
        for name, method in METHODS.items():
            begin = time.perf_counter()
            answers[name] = method(case, errors)
            seconds[name] = min(seconds[name], time.perf_counter() - begin)
    finished = answers[RIVAL].gap <= TOLERANCE
    reference = answers[RIVAL] if finished else rival(case, errors, answers[OURS].matrix)
    return [
        {
            "tasks": case.tasks,
            "configurations": case.configurations,
            "answer": case.answer,
            "shrinkage": case.shrinkage,
            "rank": int(np.linalg.matrix_rank(answers[OURS].matrix, tol=1e-6)),
            "method": name,
            "repeats": case.repeats,
            "seconds": seconds[name],
            "iterations": answer.iterations,
            "gap": answer.gap,
            "objective": objective(case, errors, answer.matrix),
            "compared_with": "rival" if finished else "rival started from ours",
            "largest_difference": float(np.abs(answers[OURS].matrix - reference.matrix).max()),
        }
        for name, answer in answers.items()
    ]


def objective(case: Case, errors: Matrix, matrix: Matrix) -> float:
    """What both minimize."""
    squares = float(np.nansum((matrix - errors) ** 2))
    return squares / 2 + case.shrinkage * float(np.linalg.svd(matrix, compute_uv=False).sum())


def measure(case: Case, needed: dict[str, int]) -> list[Row]:
    """The rows of a case; ``needed`` has the rival's iterations, by kind of answer."""
    with process() as pool:
        rows = pool.apply(compare, (case,))
    for row in rows:
        finished, iterations = float(row["gap"]) <= TOLERANCE, int(row["iterations"])
        if finished and row["method"] == RIVAL:
            needed[case.answer] = iterations
        seconds = float(row["seconds"])
        row["projected_seconds"] = (
            seconds if finished else seconds / iterations * needed[case.answer]
        )
        # A peak is that of all a process ever did.
        with process() as pool:
            row["peak_mb"] = pool.apply(peak, (case, str(row["method"])))
    return rows


def draw(rows: Sequence[Row], results: Results) -> None:
    """Time and memory over the size of the matrix."""
    from benchmarks.harness import looks

    figure, grid = looks.panels(1, 2, figsize=(9, 4))
    colors = {OURS: looks.RED, RIVAL: looks.GREY}
    styles = {"low": ("-", "at most rank 5"), "high": (":", "high rank")}
    labels = {"projected_seconds": "time per solution (s)", "peak_mb": "peak memory (MB)"}
    sizes = sorted({int(row["tasks"]) * int(row["configurations"]) for row in rows})
    for axes, (column, label) in zip(grid[0], labels.items(), strict=True):
        for (method, color), (answer, (style, kind)) in product(colors.items(), styles.items()):
            own = [row for row in rows if (row["method"], row["answer"]) == (method, answer)]
            entries = [int(row["tasks"]) * int(row["configurations"]) for row in own]
            values, text = [float(row[column]) for row in own], f"{method}, {kind}"
            axes.plot(entries, values, style, color=color, marker="o", markersize=4, label=text)
            for size, row in zip(entries, own, strict=True):
                if column == "projected_seconds" and row[column] != row["seconds"]:
                    axes.plot(size, row[column], "o", color=color, mfc="white")
        looks.logarithmic(axes, ticks=sizes)
        axes.set(xlabel="tasks x configurations (white: projected)", ylabel=label)
        axes.grid(alpha=0.3)
    grid[0, 0].legend()
    results.picture(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes, draws, prints."""
    options = script.parser(__doc__, "the smaller sizes only").parse_args(argv)
    results = Results(script.folder(options, "speed"), "completion")
    rows: list[Row] = []
    needed: dict[str, int] = {}
    for case in QUICK if options.quick else CASES:
        own = measure(case, needed)
        rows += own
        print(json.dumps(own, indent=2), flush=True)
    results.table(rows)
    settings = {"seed": SEED, "rank": RANK, "observed": OBSERVED, "noise": NOISE, "tol": TOLERANCE}
    results.record({"threads": 1, **settings})
    draw(rows, results)


if __name__ == "__main__":
    main()
