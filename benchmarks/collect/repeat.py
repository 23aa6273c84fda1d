"""Measures some entries of a corpus again, with another seed: what differs is noise.

Entries (a task and a configuration) are drawn uniformly, without replacement, and trained with the
settings that their rows of the corpus tell. First, five of them are trained with the corpus' own
seed. Where these errors are not the corpus' to the last digit, another code or machine is compared
besides another seed: repeats.json and the page of facts tell how many were.

    python benchmarks/collect/repeat.py NAME|FILE.csv [--count 50] [--seed 1] [--data FOLDER]

An interrupted run goes on from its file, results/corpora/NAME/repeats.csv; repeats.json tells what
it was measured with.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from tqdm import tqdm

from optuna_peppp.corpora.catalog import read_table
from optuna_peppp.corpora.table import CorpusTable, Row
from optuna_peppp.files import replacing
from optuna_peppp.lowprecision import Experiment

BENCHMARKS: Final = Path(__file__).resolve().parents[1]
# A script that is run finds its own folder only; environment.py is one above.
sys.path.append(str(BENCHMARKS))
from environment import describe  # noqa: E402

RESULTS: Final = BENCHMARKS / "results" / "corpora"
DATA: Final = BENCHMARKS.parents[1] / "shared" / "data" / "cifar100"
CHECKED: Final = 5
"""Entries that are tried with the corpus' own seed."""

_NEEDED: Final = (
    *("model", "format_a", "format_b", "learning_rate"),
    *("seed", "epochs", "rounding", "batch_size", "image_size"),
)


def draw(table: CorpusTable, count: int) -> list[Row]:
    """``count`` different entries of a corpus, the same in every run.

    Raises:
        ValueError: The corpus does not tell how it was measured, or holds fewer entries.
    """
    missing = [name for name in _NEEDED if name not in table.columns]
    if missing:
        raise ValueError(
            f"the corpus must tell how it was measured; it lacks {', '.join(missing)}. "
            "`optuna-peppp collect` writes them"
        )
    entries: dict[tuple[str, ...], Row] = {}
    for row in table.rows:
        entries.setdefault(entry_of(row.fields), row)
    if not 1 <= count <= len(entries):
        raise ValueError(f"count must be between 1 and the corpus' {len(entries)}; got {count}")
    chosen = np.random.default_rng(0).choice(len(entries), count, replace=False)
    rows = list(entries.values())
    return [rows[index] for index in chosen]


def entry_of(fields: dict[str, str]) -> tuple[str, ...]:
    """What makes two rows measurements of one entry."""
    return tuple(
        fields[name] for name in ("task", "model", "format_a", "format_b", "learning_rate")
    )


def measure(row: Row, seed: int, data: Path) -> dict[str, str]:
    """The row that a corpus would have with another seed, in its columns.

    Args:
        row: A row of the corpus.
        seed: Of the weights and of the training.
        data: Folder of the data sets, TASK.npz each.
    """
    fields = row.fields
    experiment = Experiment(
        f"npz:{data / row.task}.npz",
        row.model,
        image_size=int(fields["image_size"]),
        epochs=int(fields["epochs"]),
        batch_size=int(fields["batch_size"]),
        learning_rate=float(fields["learning_rate"]),
        rounding=fields["rounding"],  # type: ignore[arg-type]
        seed=seed,
    )
    start = time.perf_counter()
    result = experiment.measure({name: fields[name] for name in ("format_a", "format_b")})
    return fields | {
        "error": f"{result.error:.6g}",
        "seed": str(seed),
        "diverged": str(int(result.diverged)),
        "seconds": f"{time.perf_counter() - start:.2f}",
    }


def repeat(table: CorpusTable, count: int, seed: int, data: Path, path: Path) -> None:
    """Measures what ``path`` does not hold yet of the drawn entries.

    Raises:
        ValueError: As :func:`draw`.
    """
    drawn = draw(table, count)
    held = [row.fields for row in CorpusTable.read(path).rows] if path.exists() else []
    known = {(entry_of(fields), fields["seed"]) for fields in held}
    missing = [row for row in drawn if (entry_of(row.fields), str(seed)) not in known]
    if not missing:
        return
    checked = tqdm(drawn[:CHECKED], "the corpus' own seed", unit="run")
    again = [measure(row, int(row.fields["seed"]), data)["error"] for row in checked]
    reproduced = sum(e == row.fields["error"] for e, row in zip(again, drawn, strict=False))
    facts = {
        "tried": len(again),
        "reproduced": reproduced,
        "optuna_peppp": code_state(),
    } | describe()
    path.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
    for row in tqdm(missing, f"seed {seed}", unit="run"):
        held.append(measure(row, seed, data))
        with replacing(path) as temporary, temporary.open("x", newline="") as file:
            writer = csv.DictWriter(file, table.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(held)


def code_state() -> str:
    """Version of the package and, where git knows it, the commit and its date."""
    root = BENCHMARKS.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    state = [f"version {project['version']}"]
    for command in (["describe", "--always", "--dirty"], ["log", "-1", "--format=%cs"]):
        git = subprocess.run(["git", "-C", root, *command], capture_output=True, text=True)
        state += git.stdout.split()
    return ", ".join(state)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("corpus", help="a corpus that ships, or a CSV file")
    parser.add_argument("--count", type=int, default=50, help="entries to measure again")
    parser.add_argument("--seed", type=int, default=1, help="another than the corpus'")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of TASK.npz")
    parser.add_argument("--output", type=Path, help="folder (default: results/corpora/NAME)")
    arguments = parser.parse_args(argv)
    output = arguments.output or RESULTS / Path(arguments.corpus).stem
    output.mkdir(parents=True, exist_ok=True)
    try:
        repeat(
            read_table(arguments.corpus),
            arguments.count,
            arguments.seed,
            arguments.data,
            output / "repeats.csv",
        )
    except (OSError, ValueError) as problem:
        parser.error(str(problem))


if __name__ == "__main__":
    main()
