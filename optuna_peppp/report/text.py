"""Predictions, corpora and meta-models as people and as programs read them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from io import StringIO
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from optuna_peppp.configurations.cost import Cost
from optuna_peppp.configurations.hardware import FORMAT_NAMES
from optuna_peppp.configurations.layers import Layers
from optuna_peppp.configurations.space import Value
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.corpora.table import CorpusTable
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.prediction import RIGHT, Prediction, Recommendation
from optuna_peppp.sizes import format_size
from optuna_peppp.text import printable

if TYPE_CHECKING:
    from optuna_peppp.studies.baseline import Baseline

_ELSEWHERE: Final = {
    "1-3-2": "FP6's E3M2",
    "1-4-3": "near FP8's E4M3",
    "1-5-2": "near FP8's E5M2",
    "1-5-10": "near float16",
    "1-8-7": "bfloat16",
}
"""What formats are called elsewhere. Those near ours keep codes for infinity or NaN."""

_WIDE: Final = 10_000
"""Columns of text that nothing folds."""

_LISTED: Final = 8
"""Names that a line lists, of many."""


def as_text(
    prediction: Prediction,
    recommendation: Recommendation,
    memory_cap: str | None = None,
    baseline: Baseline | None = None,
    layers: Layers | None = None,
) -> Group:
    """What was measured, the frontier and the recommendation: a table by growing memory.

    Args:
        prediction: All configurations of a task.
        recommendation: Which of them to use; marked in the table.
        memory_cap: The cap it was made for, as its user wrote it.
        baseline: The same training in float32, where it was measured.
        layers: Those of the recommendation, where it is a precision assignment.
    """
    indices = np.union1d(np.flatnonzero(prediction.measured), prediction.frontier)
    indices = indices[np.argsort(prediction.memory[indices], kind="stable")]
    formats = dict.fromkeys(
        str(value)
        for index in indices.tolist()
        for name, value in prediction.space.params(index).items()
        if name in FORMAT_NAMES and value in _ELSEWHERE
    )
    names = [f"{name} is {_ELSEWHERE[name]}" for name in formats]
    count = int(prediction.measured.sum())
    return Group(
        Text(f"Measured, {count} of {len(prediction.space)} configurations, and the frontier:"),
        _table(prediction, indices.tolist(), recommendation.index, baseline),
        Text(),
        *([Text(f"Elsewhere, {', '.join(names)}.")] if names else ()),
        Text("Errors, and ± (a standard deviation), are those on this test set with this seed."),
        Text(saved_as_text(recommendation, baseline)),
        *([] if layers is None else [Text(layers_as_text(layers))]),
        Text(
            f"With probability {recommendation.probability:.2f} no configuration"
            f"{' within the cap' if memory_cap else ''} has an error lower by more than {RIGHT:g}."
        ),
        Text(recommended_as_text(prediction.cost, recommendation, memory_cap), "bold"),
    )


def plain(content: Group) -> str:
    """Tables and lines as text without colour, each line as long as it is."""
    console = Console(file=StringIO(), width=_WIDE, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(content)
    return "\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n"))


def recommended_as_text(
    cost: Cost, recommendation: Recommendation, memory_cap: str | None = None
) -> str:
    """What to use, in a sentence.

    Args:
        cost: What its error is weighed against.
        recommendation: The configuration.
        memory_cap: The cap it was made for, as its user wrote it.
    """
    within = (
        f" within {printable(memory_cap)}"
        if memory_cap
        else f", where more {printable(cost.name)} buys no lower error within the noise"
    )
    params = ", ".join(
        f"{printable(name)} {_shown(value)}" for name, value in recommendation.params.items()
    )
    return (
        f"Recommended{within}: {params}, {printable(cost.name)} "
        f"{printable(cost.format(recommendation.memory))}, "
        f"error {recommendation.error:.4f} "
        f"({'measured' if recommendation.measured else 'predicted'})"
    )


def layers_as_text(layers: Layers) -> str:
    """Which groups of layers are low, in a line: a letter for each."""
    shares = layers.shares
    letters = {None: "-", 0.0: "H", 1.0: "l"}
    told = [f"l low ({printable(layers.low)})", f"H high ({printable(str(layers.rule.high))})"]
    told += ["m mixed"] * any(letters.get(share, "m") == "m" for share in shares)
    told += ["- neither"] * (None in shares)
    return (
        f"Its groups of layers, input first, {', '.join(told)}: "
        f"{''.join(letters.get(share, 'm') for share in shares)}; "
        f"{layers.ratio:.0%} of all numbers are low."
    )


def as_json(
    prediction: Prediction, recommendation: Recommendation, baseline: Baseline | None = None
) -> str:
    """All configurations, the indices of the frontier and of the recommendation, the baseline.

    Memory is in bytes. The baseline is null where it was not measured.
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
        "probability": recommendation.probability,
        "baseline": None if baseline is None else asdict(baseline),
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
        lines["never measured"] = (
            f"{len(never)}, which `fit` guesses: {_listed(names)}" if never else "none"
        )
        lines["measured least"] = _listed(f"{rows[row]} {counts[row]}" for row in least)
    return "\n".join(f"{name:<17}{text}" for name, text in lines.items())


def fit_as_text(meta: MetaModel, matrix: ErrorMatrix) -> str:
    """What a meta-model learned from, and how its rank was chosen."""
    observed = matrix.observed
    return "\n".join(
        [
            f"Learned from {len(meta.tasks)} task{'s' * (len(meta.tasks) != 1)} and "
            f"{len(meta.space)} configurations, "
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


def saved_as_text(recommendation: Recommendation, baseline: Baseline | None) -> str:
    """What a recommendation saves against float32, and what it costs."""
    if baseline is None:
        return (
            "The float32 baseline, to compare with, is missing: `optuna-peppp tune` with the same "
            "storage measures it."
        )
    more = recommendation.error - baseline.error
    return (
        f"The recommended one needs {recommendation.memory / baseline.memory:.0%} of the memory of "
        f"float32 (saves {format_size(baseline.memory - recommendation.memory)} of "
        f"{format_size(baseline.memory)}); its error is {abs(more):.4f} "
        f"{'lower' if more < 0 else 'higher'}."
    )


def _table(
    prediction: Prediction, indices: list[int], chosen: int, baseline: Baseline | None
) -> Table:
    """A row per configuration, the chosen one marked; the last is the baseline."""
    names = prediction.space.names
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("")
    for name in names:
        table.add_column(printable(name), no_wrap=True)
    for name in (prediction.cost.name, "error"):
        table.add_column(printable(name), justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    frontier = set(prediction.frontier.tolist())
    for index in indices:
        measured = bool(prediction.measured[index])
        doubt = "measured" if measured else f"± {prediction.std[index]:.4f} predicted"
        cells = [
            ">" if index == chosen else "",
            *map(_shown, prediction.space.params(index).values()),
            printable(prediction.cost.format(prediction.memory[index])),
            f"{prediction.mean[index]:.4f}",
            doubt if index in frontier else f"{doubt}, not on the frontier",
        ]
        style = "bold green" if index == chosen else "" if measured else "cyan"
        table.add_row(*map(Text, cells), style=style)
    if baseline is not None:
        cells = ["", *("float32" if name in FORMAT_NAMES else "" for name in names)]
        cells += [format_size(baseline.memory), f"{baseline.error:.4f}", "measured, to compare"]
        table.add_row(*map(Text, cells), style="dim")
    return table
