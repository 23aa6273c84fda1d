"""Facts of a corpus that was measured in part: what moves errors, how the rest is predicted.

    python -m benchmarks.corpora.sampled NAME|FILE.csv [--folds 5] [--quick]

writes tables and the page NAME.md, which is made of them, into results/corpora/NAME/. The page of
facts (facts.py) is one of complete rows, whose frontiers are known.

Notation: e_ij is the error of configuration j on task i, and x_j holds, for every choice of every
name but the first, whether j has it. Main effects are least squares of

    e_ij = a_i + b' x_j,                                                                         (1)

so that b tells what a choice costs beside the first one of its name. Predictions are of entries
that were held out, a share of the measured ones in turn; an entry that is the only one left of its
configuration or its task is not, as nothing could be learned of that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpora.facts import identity
from benchmarks.harness import script
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, markdown
from optuna_peppp import ErrorMatrix, MetaModel
from optuna_peppp.corpora.catalog import read_table

FOLDS, QUICK_FOLDS = 5, 2

PREDICTORS: Final = {
    "mean": "the task's mean",
    "main_effects": "main effects of tasks and choices (Equation 1)",
    "completion": "the meta-model's completed matrix",
    "posterior": "the posterior of the task, as `predict` gives it",
}
"""Who predicts what was held out, in words."""

_OF_COMPLETE: Final = (
    "tasks left out, as entries are missing",
    "configurations that some error tells apart",
)
"""Facts that complete rows have."""


def main(argv: Sequence[str] | None = None) -> None:
    """Computes and writes tables and page."""
    parser = script.parser(__doc__, f"{QUICK_FOLDS} folds")
    parser.add_argument("corpus", help="a corpus that ships, or a CSV file")
    parser.add_argument("--folds", type=int, help=f"shares held out in turn (default: {FOLDS})")
    options = parser.parse_args(argv)
    folds = options.folds or (QUICK_FOLDS if options.quick else FOLDS)
    try:
        table = read_table(options.corpus)
        matrix = ErrorMatrix.from_table(table)
        held = held_out(matrix, folds)
    except (OSError, ValueError) as problem:
        parser.error(str(problem))
    name = options.corpus.rsplit("/", 1)[-1].removesuffix(".csv")
    results = Results(script.folder(options, f"corpora/{name}"), name)
    facts = identity(table, matrix, [])
    rows = [{"fact": fact, "value": facts[fact]} for fact in facts if fact not in _OF_COMPLETE]
    share = matrix.observed.mean()
    rows.append({"fact": "entries that were measured", "value": f"{100 * share:.1f}%"})
    results.table(rows)
    results.table(choices(matrix), "choices")
    results.table(held, "held_out")
    write_page(results)
    results.record({"corpus": name, "folds": folds, "quick": options.quick})
    print(f"{results.path('md')}: done")


def features(matrix: ErrorMatrix) -> tuple[NDArray[np.float64], list[tuple[str, str]]]:
    """Shape (d, f), x_j of every configuration, and the name and choice of every column."""
    space = matrix.space
    columns = [(name, str(v)) for name, values in space.choices.items() for v in values[1:]]
    params = [space.params(index) for index in range(len(space))]
    x = np.array([[float(str(own[name]) == v) for name, v in columns] for own in params])
    return x, columns


def effects(
    matrix: ErrorMatrix, observed: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Least squares of Equation 1: (a, b), their standard errors, and what they leave over."""
    rows, indices = np.nonzero(observed)
    design = np.hstack([np.eye(len(matrix.tasks))[rows], features(matrix)[0][indices]])
    errors = matrix.errors[observed]
    answer = np.linalg.lstsq(design, errors, rcond=None)
    solution, rank = np.asarray(answer[0], dtype=np.float64), int(answer[2])
    left = errors - design @ solution
    deviation = float(np.sqrt(left @ left / max(1, len(errors) - rank)))
    spread = deviation * np.sqrt(np.maximum(np.diag(np.linalg.pinv(design.T @ design)), 0.0))
    return solution, spread, deviation


def choices(matrix: ErrorMatrix) -> list[Row]:
    """A row a choice: what it costs beside the first of its name, and how often it was measured.

    Once of all configurations, and once without those of the costliest choice, whose errors may
    depend on everything else.
    """
    rows = _costs(matrix, matrix.observed)
    worst = max(rows, key=lambda row: float(row["cost"]))
    observed = matrix.observed.copy()
    observed[:, matrix.space.matching({str(worst["name"]): worst["choice"]})] = False
    for row, other in zip(rows, _costs(matrix, observed), strict=True):
        left_out = row is worst
        for name in ("cost", "standard_error", "left_over"):
            row[f"{name}_without_worst"] = "" if left_out else other[name]
    return rows


def _costs(matrix: ErrorMatrix, observed: NDArray[np.bool_]) -> list[Row]:
    solution, spread, deviation = effects(matrix, observed)
    _, columns = features(matrix)
    counts = observed.sum(axis=0)
    rows: list[Row] = []
    for name, values in matrix.space.choices.items():
        for value in values:
            first = (name, str(value)) not in columns
            place = -1 if first else len(matrix.tasks) + columns.index((name, str(value)))
            own = matrix.space.matching({name: value})
            rows.append(
                {
                    "name": name,
                    "choice": str(value),
                    "cost": 0.0 if first else float(solution[place]),
                    "standard_error": 0.0 if first else float(spread[place]),
                    "measurements": int(counts[own].sum()),
                    "left_over": deviation,
                }
            )
    return rows


def split(observed: NDArray[np.bool_], folds: int) -> Iterator[NDArray[np.bool_]]:
    """What is held out in every turn, of shape (n, d): no entry twice."""
    entries = np.random.default_rng(0).permutation(np.argwhere(observed))
    for fold in range(folds):
        known = observed.copy()
        for row, column in entries[fold::folds]:
            if known[row].sum() > 1 and known[:, column].sum() > 1:
                known[row, column] = False
        yield observed & ~known


def held_out(matrix: ErrorMatrix, folds: int) -> list[Row]:
    """Root mean square errors of the predictions of what was held out, a row a turn.

    Raises:
        ValueError: Fewer than two folds, or the rest is too little to learn from.
    """
    if folds < 2:
        raise ValueError(f"folds must be at least 2; got {folds}")
    rows: list[Row] = []
    for number, held in enumerate(split(matrix.observed, folds)):
        known = matrix.observed & ~held
        rest = replace(matrix, errors=np.where(known, matrix.errors, np.nan))
        predictions = predicted(rest, known)
        truth = matrix.errors[held]
        row: Row = {"turn": number, "held_out": int(held.sum()), "known": int(known.sum())}
        for name, prediction in predictions.items():
            row[name] = float(np.sqrt(np.mean(np.square(prediction[held] - truth))))
        rows.append(row)
    return rows


def predicted(rest: ErrorMatrix, known: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
    """Every predictor's matrix (n, d), of what is known."""
    meta = MetaModel.fit(rest)
    solution, _, _ = effects(rest, known)
    n = len(rest.tasks)
    posterior = np.empty(rest.errors.shape)
    for row in range(n):
        measured = np.flatnonzero(known[row])
        conditioned = meta.prior.condition(measured, rest.errors[row, measured])
        posterior[row] = np.clip(conditioned.moments().mean, 0.0, 1.0)
    means = np.array(
        [own[k].mean() if k.any() else 0.5 for own, k in zip(rest.errors, known, strict=True)]
    )
    return {
        "mean": np.repeat(means[:, None], known.shape[1], axis=1),
        "main_effects": solution[:n, None] + features(rest)[0] @ solution[n:],
        "completion": meta.errors,
        "posterior": posterior,
    }


def write_page(results: Results) -> None:
    """Writes NAME.md, of the tables that lie beside it."""
    facts, costs, held = results.read(), results.read("choices"), results.read("held_out")
    lines = [[row["fact"], row["value"]] for row in facts]
    parts = [
        f"# {results.stem}",
        "",
        markdown([["", ""], *lines]),
        "",
        "## What a choice costs",
        "",
    ]
    worst = next(row for row in costs if not row["cost_without_worst"])
    parts += [
        "Least squares of the error on the task and the choices (Equation 1 of the script): error "
        "beside the first choice of each name, with its standard error. What they leave over, "
        f"noise and interactions, has a standard deviation of {float(costs[0]['left_over']):.4f}; "
        f"without the configurations of `{worst['choice']}`, of "
        f"{float(costs[0]['left_over_without_worst']):.4f}.",
        "",
        markdown(
            [
                ["name", "choice", "costs", f"without `{worst['choice']}`", "measurements"],
                *(
                    [
                        row["name"],
                        f"`{row['choice']}`",
                        cost(row),
                        "" if row is worst else cost(row, "_without_worst"),
                        row["measurements"],
                    ]
                    for row in costs
                ),
            ]
        ),
    ]
    total = sum(int(row["held_out"]) for row in held)
    parts += [
        "",
        "## Predictions of what was held out",
        "",
        f"Root mean square error of {total} entries, a share at a time, predicted from the rest.",
        "",
        markdown(
            [
                ["predicted by", "root mean square error"],
                *([words, f"{pooled(held, name):.4f}"] for name, words in PREDICTORS.items()),
            ]
        ),
        "",
    ]
    results.path("md").write_text("\n".join(parts), encoding="utf-8")


def cost(row: dict[str, str], of: str = "") -> str:
    """What a choice costs, with its standard error."""
    return f"{float(row[f'cost{of}']):+.4f} ± {float(row[f'standard_error{of}']):.4f}"


def pooled(rows: Sequence[dict[str, str]], name: str) -> float:
    """Root mean square over all turns."""
    counts = np.array([int(row["held_out"]) for row in rows])
    squares = np.square([float(row[name]) for row in rows])
    return float(np.sqrt(counts @ squares / counts.sum()))


if __name__ == "__main__":
    main()
