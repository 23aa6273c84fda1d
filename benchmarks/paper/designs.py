"""Figure 13: greedy against convex D-optimal designs, by what ED-MF predicts from them.

For every task, embeddings of rank 5 of the others' errors (Setting I), designs of l measurements,
and the errors predicted from them by least squares (authors.py). Times are measured side by side.
The convex design is shown as SLSQP converges, and as it is after two iterations. And the histogram
of the convex solution on the entire matrix, with rank 5 and l = 20.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.looks import BLACK, BLUE, ORANGE, WIDTH
from benchmarks.harness.tables import Row
from benchmarks.paper import authors
from benchmarks.paper.anchors import Anchor, claim, number
from benchmarks.paper.baselines import convex_design
from benchmarks.paper.script import Script
from benchmarks.paper.settings import chosen_rows
from optuna_peppp import ErrorMatrix
from optuna_peppp.acquisition.design import greedy_order

COUNTS: Final = (6, 10, 20)
CONVEX: Final = {"convex": 1000, "convex_early": 2}
"""With the largest number of iterations."""

TIE: Final = 1e-9


def figure_13(script: Script) -> list[Anchor]:
    """Errors and times of both designs."""
    corpus = script.corpus
    rank = min(authors.RANK, len(corpus.tasks) - 1)
    # A design of all configurations leaves nothing to choose.
    counts = [count for count in COUNTS if rank <= count < len(corpus.space)]
    chosen = chosen_rows(corpus, script.quick)
    rows = [judged(corpus, row, count) for count in counts for row in chosen]
    right = np.linalg.svd(corpus.errors, full_matrices=False)[2]
    shares = convex_design(right[:rank].T, counts[-1]).shares

    script.results.table(rows)
    figure, (left, middle, last) = plt.subplots(1, 3, figsize=(WIDTH, 2.6))
    most = [row for row in rows if row["measurements"] == counts[-1]]
    greedy = _column(most, "greedy_error").tolist()
    for ax, name, title in (
        (left, "convex", "converged"),
        (middle, "convex_early", f"{CONVEX['convex_early']} iterations"),
    ):
        ax.plot([0, max(greedy)], [0, max(greedy)], color=BLACK, linewidth=0.7)
        ax.scatter(greedy, _column(most, f"{name}_error").tolist(), s=8, color=ORANGE)
        ax.set(
            title=f"{len(most)} tasks, l = {counts[-1]}",
            xlabel="relative error, greedy",
            ylabel=f"relative error, convex, {title}",
        )
    last.hist(shares, np.linspace(0, 1, 21).tolist(), color=BLUE)
    last.set(
        title=f"entire matrix, l = {counts[-1]}", xlabel="entry of v*", ylabel="configurations"
    )
    last.set_yscale("symlog")
    script.results.picture(figure)
    return script.finish(_anchors(rows) if script.authors else [], tasks=len(chosen))


def judged(corpus: ErrorMatrix, row: int, count: int) -> Row:
    """What the designs for one task cost and give."""
    task = authors.split(corpus, row, memory_cap=None)
    embeddings, errors = task.meta.embeddings, task.errors
    result: Row = {"task": corpus.tasks[row], "measurements": count}
    for name in ("greedy", *CONVEX):
        begin = time.perf_counter()
        if name == "greedy":
            chosen = greedy_order(embeddings, count)
        else:
            chosen = convex_design(embeddings, count, max_iterations=CONVEX[name]).chosen
        result[f"{name}_seconds"] = time.perf_counter() - begin
        error = np.linalg.norm(authors.predict(task, chosen) - errors) / np.linalg.norm(errors)
        result[f"{name}_error"] = float(error)
    return result


def _anchors(rows: Sequence[Row]) -> list[Anchor]:
    lower: dict[str, list[int]] = {name: [] for name in CONVEX}
    higher: dict[str, list[int]] = {name: [] for name in CONVEX}
    counts = sorted({int(row["measurements"]) for row in rows})
    for count in counts:
        of_count = [row for row in rows if row["measurements"] == count]
        for name in CONVEX:
            excess = _column(of_count, f"{name}_error") - _column(of_count, "greedy_error")
            lower[name].append(int((excess > TIE).sum()))
            higher[name].append(int((excess < -TIE).sum()))
    measurements = ", ".join(map(str, counts))
    return [
        number(
            "greedy design, times as fast as the convex one (Appendix C)",
            "> 10",
            float(np.median(_column(rows, "convex_seconds") / _column(rows, "greedy_seconds"))),
            "median over tasks and l, side by side; SLSQP with an analytic gradient",
        ),
        claim(
            "relative error from the greedy design against the convex one (Figure 13)",
            "consistently lower",
            f"l = {measurements}: lower on {lower['convex']}, higher on {higher['convex']} of "
            f"{len(of_count)} tasks, else the same design",
            lower["convex"][-1] > 0.9 * len(of_count),
            "a converged SLSQP finds designs as good; where it stops too early, here after "
            f"{CONVEX['convex_early']} iterations, greedy is lower on {lower['convex_early']}",
        ),
    ]


def _column(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    return np.array([float(row[name]) for row in rows])
