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

    python benchmarks/speed/completion.py [--quick]
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))  # Where environment.py and speed/ are.
from speed.files import RESULTS, Row, write_facts, write_table

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
    Case(87, 99, 5),
    Case(200, 300, 2),
    Case(500, 1000, 1, rival_iterations=5),
    Case(87, 99, 1, answer="high"),
    Case(200, 300, 1, rival_iterations=5, answer="high"),
)


@dataclass(frozen=True)
class Answer:
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


def draw(rows: list[Row], path: Path) -> None:
    """Time and memory over the size of the matrix."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    colors = {OURS: "tab:red", RIVAL: "0.45"}
    names = {OURS: "soft_impute", RIVAL: "dense SVD"}
    styles = {"low": ("-", "at most rank 5"), "high": (":", "high rank")}
    ticks: dict[int, str] = {}
    for (method, color), (answer, (style, kind)) in product(colors.items(), styles.items()):
        own = [row for row in rows if (row["method"], row["answer"]) == (method, answer)]
        entries = np.array([int(row["tasks"]) * int(row["configurations"]) for row in own])
        times = np.array([float(row["projected_seconds"]) for row in own])
        memory = [float(row["peak_mb"]) for row in own]
        projected = times != [float(row["seconds"]) for row in own]
        for axes, values in zip(panels, (times, memory), strict=True):
            axes.plot(
                entries,
                values,
                style,
                color=color,
                marker="o",
                markersize=4,
                label=f"{names[method]}, {kind}",
            )
        panels[0].plot(entries[projected], times[projected], "o", color=color, mfc="white")
        ticks |= {
            size: f"{row['tasks']:,}\nx {row['configurations']:,}"
            for size, row in zip(entries.tolist(), own, strict=True)
        }
    panels[0].plot([], [], "o", color=colors[RIVAL], mfc="white", label="projected")
    for axes, label in zip(
        panels, ("time per solution (s)", "peak memory of the process (MB)"), strict=True
    ):
        axes.set(xscale="log", yscale="log", xlabel="tasks x configurations", ylabel=label)
        axes.set_xticks(list(ticks), list(ticks.values()), fontsize=8)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Measures, writes, draws, prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the smaller sizes only")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    rows: list[Row] = []
    needed: dict[str, int] = {}
    for case in QUICK if arguments.quick else CASES:
        # A process for every task: a peak is that of all a process ever did.
        with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            pair = pool.apply(compare, (case,))
            for row in pair:
                finished = float(row["gap"]) <= TOLERANCE
                if finished and row["method"] == RIVAL:
                    needed[case.answer] = int(row["iterations"])
                each = float(row["seconds"]) / int(row["iterations"])
                row["projected_seconds"] = (
                    float(row["seconds"]) if finished else each * needed[case.answer]
                )
                row["peak_mb"] = pool.apply(peak, (case, str(row["method"])))
        rows += pair
        times = {row["method"]: float(row["projected_seconds"]) for row in pair}
        print(
            f"{case.tasks:>6} x {case.configurations:<5} {case.answer:<5}"
            + "".join(
                f"  {row['method']}: {row['projected_seconds']:.3g} s, {row['iterations']} "
                f"iterations, {row['peak_mb']:.0f} MB;"
                for row in pair
            )
            + f"  ratio {times[RIVAL] / times[OURS]:.1f},"
            + f" largest difference {pair[0]['largest_difference']:.1e}"
            + f" ({pair[0]['compared_with']})",
            flush=True,
        )
    write_table(rows, arguments.output / "completion.csv")
    settings = {"seed": SEED, "rank": RANK, "observed": OBSERVED, "noise": NOISE, "tol": TOLERANCE}
    write_facts({"threads": 1, **settings}, arguments.output / "completion.json")
    draw(rows, arguments.output / "completion.png")


if __name__ == "__main__":
    main()
