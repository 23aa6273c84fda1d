"""Do short trainings order configurations as long ones do? (paper, Appendix E.4.1, Figure 19).

    python benchmarks/collect/epochs_study.py SHORT.csv LONG.csv [--output FOLDER]

For every task that both corpora hold, Kendall's tau of the errors of the configurations that both
measured, in a CSV and a picture named after the second.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from optuna_peppp import ErrorMatrix

BENCHMARKS: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = BENCHMARKS / "results" / "collect"


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
        if (task, model) not in places:
            continue
        errors = short.errors[places[task, model], ours], long.errors[row, theirs]
        both = ~np.isnan(errors).any(axis=0)
        if both.sum() > 1:
            pairs[f"{model} {task}"] = errors[0][both], errors[1][both]
    if not pairs:
        raise ValueError("both corpora must hold a task with two configurations that both measured")
    return pairs


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the table, then the picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("short", type=Path, help="corpus of shorter trainings")
    parser.add_argument("long", type=Path, help="corpus of longer trainings")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder")
    arguments = parser.parse_args(argv)
    try:
        pairs = paired(*(ErrorMatrix.read_csv(p) for p in (arguments.short, arguments.long)))
    except (OSError, ValueError) as problem:
        parser.error(str(problem))
    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(4.2, 3.2), layout="constrained")
    path: Path = arguments.output / f"{arguments.long.stem}_tau.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("task", "configurations", "kendall_tau", "mean_short", "mean_long"))
        for name, (short, long) in pairs.items():
            tau = float(kendalltau(short, long).statistic)
            means = (f"{errors.mean():.4f}" for errors in (short, long))
            writer.writerow((name, len(short), f"{tau:.3f}", *means))
            axes.scatter(short, long, s=9, alpha=0.7, label=f"{name}, tau {tau:.2f}")
            print(f"{name}: Kendall's tau {tau:.3f} of {len(short)} configurations")
    axes.set(xlabel=f"error, {arguments.short.stem}", ylabel=f"error, {arguments.long.stem}")
    axes.legend(fontsize="small")
    figure.savefig(path.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
