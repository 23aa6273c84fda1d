"""Measures some entries of a corpus again, with another seed: what differs is noise.

Entries (a task and a configuration) are drawn uniformly, without replacement, and trained with the
settings that their rows of the corpus tell. First, five of them are trained with the corpus' own
seed. Where these errors are not the corpus' to the last digit, another code or machine is compared
besides another seed: repeats.json and the page of facts tell how many were.

    python -m benchmarks.corpora.repeat NAME|FILE.csv [--count 50] [--seed 1] [--data FOLDER]

An interrupted run goes on from its file, results/corpora/NAME/repeats.csv; repeats.json tells what
it was measured with.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from tqdm import tqdm

from benchmarks.harness import script
from benchmarks.harness.script import Results
from optuna_peppp.corpora.catalog import read_table
from optuna_peppp.corpora.table import CorpusTable, Row
from optuna_peppp.lowprecision import Experiment

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
    """A row of the corpus with another seed; ``data`` is the folder of TASK.npz."""
    fields = row.fields
    experiment = Experiment(
        f"npz:{data / row.task}.npz",
        row.model,
        image_size=int(fields["image_size"]),
        epochs=int(fields["epochs"]),
        batch_size=int(fields["batch_size"]),
        learning_rate=float(fields["learning_rate"]),
        rounding=fields["rounding"],  # type: ignore[arg-type]
        sites=fields.get("sites") or "modules",  # type: ignore[arg-type]
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


def repeat(table: CorpusTable, count: int, seed: int, data: Path, results: Results) -> None:
    """Measures what the file of results does not hold yet of the drawn entries.

    Raises:
        ValueError: As :func:`draw`.
    """
    drawn, path = draw(table, count), results.path("csv")
    held = [row.fields for row in CorpusTable.read(path).rows] if path.exists() else []
    known = {(entry_of(fields), fields["seed"]) for fields in held}
    missing = [row for row in drawn if (entry_of(row.fields), str(seed)) not in known]
    if not missing:
        return
    checked = tqdm(drawn[:CHECKED], "the corpus' own seed", unit="run")
    again = [measure(row, int(row.fields["seed"]), data)["error"] for row in checked]
    same = sum(e == row.fields["error"] for e, row in zip(again, drawn, strict=False))
    facts = {"seed": seed, "tried": len(again), "reproduced": same}
    results.record(facts | {"optuna_peppp": code_state()})
    for row in tqdm(missing, f"seed {seed}", unit="run"):
        fields = measure(row, seed, data)
        held.append({name: fields[name] for name in table.columns})
        results.table(held)


def code_state() -> str:
    """Version of the package and, where git knows it, the commit and its date."""
    state = [f"version {script.installed('optuna_peppp')}"]
    for command in (["describe", "--always", "--dirty"], ["log", "-1", "--format=%cs"]):
        repository = ["git", "-C", str(script.BENCHMARKS)]
        state += subprocess.run(
            [*repository, *command], capture_output=True, text=True
        ).stdout.split()
    return ", ".join(state)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and writes."""
    parser = script.parser(__doc__, "two entries")
    parser.add_argument("corpus", help="a corpus that ships, or a CSV file")
    parser.add_argument("--count", type=int, default=50, help="entries to measure again")
    parser.add_argument("--seed", type=int, default=1, help="another than the corpus'")
    parser.add_argument("--data", type=Path, default=script.DATA / "cifar100", help="of TASK.npz")
    options = parser.parse_args(argv)
    folder = script.folder(options, f"corpora/{Path(options.corpus).stem}")
    count = 2 if options.quick else options.count
    try:
        table = read_table(options.corpus)
        repeat(table, count, options.seed, options.data, Results(folder, "repeats"))
    except (OSError, ValueError) as problem:
        parser.error(str(problem))


if __name__ == "__main__":
    main()
