"""Do short trainings order configurations as long ones do? (paper, Appendix E.4.1, Figure 19).

For every task that both corpora hold, Kendall's tau of the errors of the configurations that both
measured, in a CSV and a picture named after the second; measure.py makes them.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from benchmarks.harness.looks import WIDTH
from benchmarks.harness.script import Results
from optuna_peppp import ErrorMatrix


def compare(short: Path, long: Path, output: Path) -> None:
    """Writes the table, then the picture, of two corpus files."""
    results, rows = Results(output, f"{long.stem}_tau"), []
    figure, axes = plt.subplots(figsize=(0.7 * WIDTH, 3.2))
    for name, pair in paired(*(ErrorMatrix.read_csv(path) for path in (short, long))).items():
        tau = float(kendalltau(*pair).statistic)
        means = {
            f"mean_{k}": f"{e.mean():.4f}" for k, e in zip(("short", "long"), pair, strict=True)
        }
        count = len(pair[0])
        rows.append({"task": name, "configurations": count, "kendall_tau": f"{tau:.3f}"} | means)
        axes.scatter(*pair, s=9, alpha=0.7, label=f"{name}, tau {tau:.2f}")
        print(f"{name}: Kendall's tau {tau:.3f} of {count} configurations")
    results.table(rows)
    axes.set(xlabel=f"error, {short.stem}", ylabel=f"error, {long.stem}")
    axes.legend()
    results.picture(figure)


def paired(
    short: ErrorMatrix, long: ErrorMatrix
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Errors of the same configurations on the tasks that both hold, by name.

    Raises:
        ValueError: They share no task with two configurations.
    """
    columns = {tuple(short.space.params(j).items()): j for j in range(len(short.space))}
    known = [tuple(long.space.params(j).items()) for j in range(len(long.space))]
    shared = [(columns[key], j) for j, key in enumerate(known) if key in columns]
    ours, theirs = np.array(shared, dtype=int).reshape(-1, 2).T
    places = {key: row for row, key in enumerate(zip(short.tasks, short.models, strict=True))}
    pairs = {}
    for row, (task, model) in enumerate(zip(long.tasks, long.models, strict=True)):
        if (task, model) in places:
            errors = short.errors[places[task, model], ours], long.errors[row, theirs]
            both = ~np.isnan(errors).any(axis=0)
            if both.sum() > 1:
                pairs[f"{model} {task}"] = errors[0][both], errors[1][both]
    if not pairs:
        raise ValueError("both corpora must hold a task with two configurations that both measured")
    return pairs
