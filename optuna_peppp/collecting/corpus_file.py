"""What a storage holds, as a corpus CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from optuna_peppp.collecting.planning import Measurement, by_study
from optuna_peppp.collecting.tasks import load
from optuna_peppp.configurations.hardware import FORMAT_NAMES
from optuna_peppp.corpora.table import CorpusTable, Row, columns_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


MORE: Final = (
    "seed",
    "epochs",
    "optimizer",
    "schedule",
    "rounding",
    "sites",
    "batch_size",
    "image_size",
    "width",
    "depth",
    "momentum",
    "weight_decay",
    "diverged",
    "seconds",
    "device",
    "torch",
)
"""The columns behind the error and the memory: how each row was measured."""

_ASSIGNED: Final = ("low_ratio", "promoted", "same_as")
"""The columns of precision assignments: the share of numbers that were low in the end, how many
tensors were promoted, and, of a copy, the configuration that was measured."""

COLUMNS: Final = columns_of((*FORMAT_NAMES, "learning_rate"), more=MORE)
"""The columns of an exported corpus of the paper's configurations."""


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
    rows: list[Row] = []
    names: dict[str, None] = {}
    for task in load(by_study(measurements), storage):
        held = task.claims.held().complete
        space = next(iter(task.planned.values())).space
        names |= dict.fromkeys((*space.names, "learning_rate"))
        for key in sorted(held):
            fields = _fields(task.settings, held[key])
            rows.append(Row(path, len(rows) + 2, fields, *held[key].values))
    if rows:
        more = [name for name in MORE if name not in names]
        more += [name for name in _ASSIGNED if any(name in row.fields for row in rows)]
        columns = columns_of(tuple(names), more=more)
        CorpusTable(list(columns), [*names], rows).write(path)
    return len(rows)


def _fields(settings: dict[str, Any], trial: FrozenTrial) -> dict[str, str]:
    """A completed trial in the columns of a corpus."""
    error, memory = trial.values
    told = trial.user_attrs
    fields = {
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
    return {name: "" if value is None else str(value) for name, value in fields.items()}
