"""Where mixing two formats beats one in-between format at the same bytes.

A network is trained on CIFAR-100's superclasses in uniform formats and in assignments that mix
two of them: which groups are demoted is decided by the order and the share. Judged is, in every
task, which of them are on the frontier of all, what the frontier of uniform formats gains from
them, and what an order costs against the one by decreasing size at as many demoted numbers.
Memory is that of saved tensors, weights and optimizer, group by group. Measurements are kept as
they come, and a run that was cut off goes on.

    python -m benchmarks.assignments.frontier [--data FOLDER] [--tasks NAME ...] [--quick]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from benchmarks.harness import looks, script
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, Rows, grouped, markdown
from optuna_peppp import pareto
from optuna_peppp.configurations.hardware import recipe_of
from optuna_peppp.lowprecision import Experiment, training_memory

TASKS: Final = ("flowers", "trees", "vehicles_1", "people")
HIGH: Final = "1-4-3"
UNIFORM: Final = ("1-3-1", "1-3-2", "1-3-3", HIGH)
DEMOTIONS: Final = (0.2, 0.4, 0.6, 0.8)
FORMAT_B: Final = "1-6-9"


def plan() -> Iterator[dict[str, str | float]]:
    """The configurations: uniform formats, then assignments by order and share."""
    for fmt in UNIFORM:
        yield {"format_a": fmt, "format_b": FORMAT_B}
    mixed: dict[str, str | float] = {"format_high": HIGH, "format_b": FORMAT_B}
    for order in ("decreasing", "increasing"):
        for demotion in DEMOTIONS:
            yield {**mixed, "format_low": "1-3-1", "demotion": demotion, "order": order}
    yield {**mixed, "format_low": "1-3-1", "demotion": 1.0, "order": "operator"}
    for demotion in (0.4, 0.8):
        yield {**mixed, "format_low": "1-3-2", "demotion": demotion, "order": "decreasing"}


def name_of(params: dict[str, str | float]) -> str:
    """A configuration in a word.

    >>> name_of({"format_low": "1-3-1", "format_high": "1-4-3", "demotion": 0.4, "order": "o"})
    '1-3-1/1-4-3 0.4 o'
    """
    if "format_a" in params:
        return str(params["format_a"])
    return "{format_low}/{format_high} {demotion} {order}".format(**params)


def measure(data: Path, tasks: list[str], epochs: int, results: Results) -> Rows:
    """Measures what is missing; one row a configuration and task."""
    rows: list[Row] = [dict(row) for row in results.read()]
    done = {(row["task"], row["configuration"]) for row in rows}
    for task in tasks:
        experiment = Experiment(
            f"npz:{data / task}.npz", "resnet20", image_size=16, epochs=epochs, learning_rate=0.01
        )
        for params in plan():
            if (task, name_of(params)) in done:
                continue
            recipe = recipe_of(params, experiment.rounding)
            shape = experiment.load().input_shape
            memory = training_memory(experiment.build(), shape, experiment.batch_size, recipe)
            error = experiment.measure(params).error
            row: Row = {"task": task, "configuration": name_of(params)}
            rows.append({**row, "memory": memory.total, "error": f"{error:.4f}"})
            results.table(rows)
            print(task, name_of(params), memory.total, f"{error:.4f}", flush=True)
    return results.read()


def judged(rows: Rows) -> list[Row]:
    """By task: the frontier of all, and the area that it dominates beyond that of uniform ones."""
    found: list[Row] = []
    for task, own in grouped(rows, "task").items():
        points = np.array([[float(row["memory"]), float(row["error"])] for row in own])
        points[:, 0] = pareto.scale(points[:, 0])
        uniform = np.array([row["configuration"] in UNIFORM for row in own])
        on = pareto.frontier(points)
        mixed = [own[place]["configuration"] for place in on if not uniform[place]]
        alone, together = (
            pareto.hypervolume(part, pareto.REFERENCE) for part in (points[uniform], points)
        )
        row: Row = {"task": task, "uniform": f"{alone:.4f}", "with mixed": f"{together:.4f}"}
        shares = {"mixed on the frontier": f"{len(mixed)} of {len(on)}"}
        found.append({**row, **shares, "which": ", ".join(mixed) or "none"})
    return found


def draw(rows: Rows) -> Figure:
    """Error against memory, a panel a task."""
    by_task = grouped(rows, "task")
    figure, axes = looks.panels(1, len(by_task), figsize=(2.6 * len(by_task), 2.8))
    for axis, (task, own) in zip(axes[0], by_task.items(), strict=True):
        kinds: dict[str, list[tuple[float, float]]] = {}
        for row in own:
            formats, *rest = row["configuration"].split()
            kind = f"{formats} {rest[1]}" if rest else "uniform"
            kinds.setdefault(kind, []).append((float(row["memory"]) / 1e6, float(row["error"])))
        for kind, points in kinds.items():
            memory, errors = zip(*sorted(points), strict=True)
            axis.plot(memory, errors, "o-", label=kind, markersize=3, linewidth=1)
        axis.set(title=task, xlabel="Memory (MB)", ylabel="Test error")
    looks.legend(figure, axes[0][0], columns=5)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, judges and draws."""
    parser = script.parser(__doc__, "one epoch of one task")
    parser.add_argument("--data", type=Path, default=script.DATA / "cifar100")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    options = parser.parse_args(arguments)
    results = Results(script.folder(options), "assignments")
    tasks, epochs = (options.tasks[:1], 1) if options.quick else (options.tasks, 6)
    rows = measure(options.data, tasks, epochs, results)
    table = judged(rows)
    results.table(table, "frontier")
    results.picture(draw(rows))
    results.record({"epochs": epochs, "network": "resnet20", "image_size": 16, "seed": 0})
    print(markdown([list(table[0]), *([str(cell) for cell in row.values()] for row in table)]))


if __name__ == "__main__":
    main()
