"""What a storage holds, as a corpus CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from optuna_peppp.collecting.planning import Measurement, by_study
from optuna_peppp.collecting.tasks import load
from optuna_peppp.corpora.csvfile import write_lines

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


COLUMNS: Final = (
    "task",
    "model",
    "format_a",
    "format_b",
    "learning_rate",
    "error",
    "memory",
    "seed",
    "epochs",
    "rounding",
    "batch_size",
    "image_size",
    "momentum",
    "weight_decay",
    "diverged",
    "seconds",
    "device",
    "torch",
)
"""The columns of an exported corpus: the corpus format, then how each row was measured."""


def export(measurements: Sequence[Measurement], storage: str, path: Path) -> int:
    """Writes what a storage holds of the studies of a plan as a corpus CSV.

    All their measurements count, whether the plan holds them or not. The file appears whole or
    not at all; where nothing is measured, there is none.

    Args:
        measurements: The plan.
        storage: As for :func:`collect`.
        path: The file.

    Returns:
        How many rows it has.

    Raises:
        ValueError: As for :func:`collect`, or there is no such storage.
    """
    rows = []
    for task in load(by_study(measurements), storage):
        held = task.claims.held().complete
        rows += [_row(task.settings, held[key]) for key in sorted(held)]
    if rows:
        write_lines(path, COLUMNS, ([row.get(name, "") for name in COLUMNS] for row in rows))
    return len(rows)


def _row(settings: dict[str, Any], trial: FrozenTrial) -> dict[str, Any]:
    """A completed trial in the columns of a corpus."""
    error, memory = trial.values
    told = trial.user_attrs
    return {
        **settings,
        **trial.params,
        **told,
        "task": settings["data"],
        "model": settings["network"],
        "error": f"{error:.6g}",
        "memory": int(memory),
        "diverged": int(told["diverged"]),
        "seconds": f"{told['seconds']:.2f}",
    }
