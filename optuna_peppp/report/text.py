"""Predictions, corpora and meta-models as people and as programs read them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

import numpy as np

from optuna_peppp.configurations.space import Value
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.corpora.table import CorpusTable
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.prediction import Prediction, Recommendation
from optuna_peppp.sizes import format_size
from optuna_peppp.text import printable

_LISTED: Final = 8
"""Names that a line lists, of many."""


def as_text(
    prediction: Prediction, recommendation: Recommendation, memory_cap: str | None = None
) -> str:
    """What was measured, the frontier and the recommendation, as tables by growing memory.

    Args:
        prediction: All configurations of a task.
        recommendation: Which of them to use; marked in the frontier.
        memory_cap: The cap it was made for, as its user wrote it.
    """
    by_memory = np.argsort(prediction.memory, kind="stable")
    measured = by_memory[prediction.measured[by_memory]].tolist()
    return "\n".join(
        [
            f"Measured, {len(measured)} of {len(prediction.space)} configurations:",
            *_rows(prediction, measured),
            "",
            "Frontier, measured and predicted:",
            *_rows(prediction, prediction.frontier.tolist(), chosen=recommendation.index),
            "",
            recommended_as_text(recommendation, memory_cap),
        ]
    )


def recommended_as_text(recommendation: Recommendation, memory_cap: str | None = None) -> str:
    """What to use, in a sentence.

    Args:
        recommendation: The configuration.
        memory_cap: The cap it was made for, as its user wrote it.
    """
    within = f" within {printable(memory_cap)}" if memory_cap else ""
    params = ", ".join(
        f"{printable(name)} {_shown(value)}" for name, value in recommendation.params.items()
    )
    return (
        f"Recommended{within}: {params}, memory {format_size(recommendation.memory)}, "
        f"error {recommendation.error:.4f} "
        f"({'measured' if recommendation.measured else 'predicted'})"
    )


def as_json(prediction: Prediction, recommendation: Recommendation) -> str:
    """All configurations, and the indices of the frontier and of the recommendation.

    Memory is in bytes.
    """
    configurations = [
        {
            **prediction.space.params(index),
            "memory": float(prediction.memory[index]),
            "error": float(prediction.mean[index]),
            "std": float(prediction.std[index]),
            "measured": bool(prediction.measured[index]),
        }
        for index in range(len(prediction.space))
    ]
    content = {
        "configurations": configurations,
        "frontier": prediction.frontier.tolist(),
        "recommendation": recommendation.index,
    }
    return json.dumps(content, indent=2) + "\n"


def corpus_as_text(table: CorpusTable) -> str:
    """What a corpus holds, and what it lacks: a line each.

    Raises:
        ValueError: As :meth:`ErrorMatrix.read_csv`.
    """
    matrix = ErrorMatrix.from_table(table)
    observed, space = matrix.observed, matrix.space
    errors = matrix.errors[observed]
    known = matrix.memory[~np.isnan(matrix.memory)]
    never = np.flatnonzero(~observed.any(axis=0)).tolist()
    counts = observed.sum(axis=1)
    rows = list(map(printable, matrix.labels))
    tuned = (f"{printable(name)} ({len(values)})" for name, values in space.choices.items())
    lines = {
        "tasks": f"{len(rows)}: {_listed(rows)}",
        "networks": _listed(filter(None, dict.fromkeys(map(printable, matrix.models))))
        or "not told",
        "configurations": f"{len(space)}: {', '.join(tuned)}",
        "settings": _listed(
            f"{printable(name)} {_shown(value)}" for name, value in matrix.settings.items()
        )
        or "none",
        "observed": f"{errors.size} of {observed.size} entries, {errors.size / observed.size:.1%}",
        "errors": f"{errors.min():.4g} to {errors.max():.4g}, median {np.median(errors):.4g}",
        "memory": f"{format_size(known.min())} to {format_size(known.max())}"
        if known.size
        else "unknown",
        "repeats": _repeats(table, matrix),
    }
    if observed.all():
        squares = np.linalg.svd(matrix.errors, compute_uv=False)[:5] ** 2
        shares = np.cumsum(squares) / (np.square(matrix.errors).sum() or 1.0)
        lines["singular values"] = (
            f"{', '.join(f'{share:.2%}' for share in shares)} of their squares in the first "
            f"{len(shares)}, added up"
        )
    else:
        least = counts.argsort(kind="stable").tolist()
        names = [" / ".join(map(_shown, space.params(index).values())) for index in never]
        lines["never measured"] = f"{len(never)}: {_listed(names)}" if never else "none"
        lines["measured least"] = _listed(f"{rows[row]} {counts[row]}" for row in least)
    return "\n".join(f"{name:<17}{text}" for name, text in lines.items())


def fit_as_text(meta: MetaModel, matrix: ErrorMatrix) -> str:
    """What a meta-model learned from, and how its rank was chosen."""
    observed = matrix.observed
    return "\n".join(
        [
            f"Learned from {len(meta.tasks)} tasks and {len(meta.space)} configurations, "
            f"{observed.mean():.1%} of their errors measured.",
            meta.selection,
        ]
    )


def _repeats(table: CorpusTable, matrix: ErrorMatrix) -> str:
    """How often entries were measured again, and how far the errors lie apart."""
    repeated = [rows for rows in table.entries(matrix.space).values() if len(rows) > 1]
    if not repeated:
        return "none"
    errors = [[row.error for row in rows] for rows in repeated]
    spreads = [max(entry) - min(entry) for entry in errors]
    return (
        f"{len(repeated)} entries measured up to {max(map(len, errors))} times; largest less "
        f"smallest error {np.median(spreads):.4g} in the median, at most {max(spreads):.4g}"
    )


def _shown(value: Value) -> str:
    """A choice as a line of text holds it, whatever made it."""
    return printable(str(value))


def _listed(names: Iterable[str]) -> str:
    """The names, or the first of them."""
    names = list(names)
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def _rows(prediction: Prediction, indices: list[int], chosen: int | None = None) -> list[str]:
    """A header and a line per configuration, the chosen one marked."""
    header = (*map(printable, prediction.space.names), "memory", "error")
    rows = ["  " + "".join(f"{name:>14}" for name in header)]
    for index in indices:
        cells = [_shown(value) for value in prediction.space.params(index).values()]
        cells += [format_size(prediction.memory[index]), f"{prediction.mean[index]:.4f}"]
        doubt = "" if prediction.measured[index] else f" ± {prediction.std[index]:.4f} predicted"
        mark = "> " if index == chosen else "  "
        rows.append(mark + "".join(f"{cell:>14}" for cell in cells) + doubt)
    return rows
