"""A script: its arguments, the files of its results, and what is recorded beside them."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.harness import tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BENCHMARKS: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = BENCHMARKS / "results"
QUICK: Final = RESULTS / "quick"
"""Where quick runs write, so that they leave the results of full ones alone."""

DATA: Final = BENCHMARKS.parents[1] / "shared" / "data"
"""Real images and the matrices of the paper's authors, beside the repository."""

PACKAGES: Final = ("optuna_peppp", "optuna", "numpy", "scipy", "torch", "torchvision")


def parser(description: str | None, quick: str) -> argparse.ArgumentParser:
    """A parser that knows --quick, which does what ``quick`` says, and --output."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--quick", action="store_true", help=f"{quick}, into results/quick/")
    found.add_argument("--output", type=Path, help="folder of the results instead")
    return found


def folder(options: argparse.Namespace, name: str = "") -> Path:
    """The folder of the results, made where it is not there; ``name`` is below results/."""
    path: Path = options.output or (QUICK if options.quick else RESULTS) / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def installed(package: str) -> str | None:
    """The version of a distribution; None where it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment(rivals: Sequence[str] = ()) -> dict[str, str | None]:
    """Versions, those of rivals too, and hardware."""
    return {
        "python": platform.python_version(),
        **{name: installed(name) for name in (*PACKAGES, "scikit-learn", *rivals)},
        "processor": _processor(),
        "cores": str(os.cpu_count()),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True, slots=True)
class Results:
    """The files of one run: tables first, pictures second, the record of what it ran on last.

    Attributes:
        folder: Of them all.
        stem: What their names begin with; parts have an underscore and their own name after it.
    """

    folder: Path
    stem: str

    def path(self, suffix: str, part: str = "") -> Path:
        """Of one file."""
        return self.folder / f"{self.stem}{'_' * bool(part)}{part}.{suffix}"

    def table(self, rows: Sequence[Mapping[str, object]], part: str = "") -> None:
        """Writes rows, at least one, as CSV."""
        tables.write(self.path("csv", part), rows)

    def read(self, part: str = "") -> tables.Rows:
        """The rows of a table; none where there is no such file."""
        return tables.read(self.path("csv", part))

    def picture(self, figure: Figure, part: str = "") -> None:
        """Writes a figure as PNG and closes it."""
        import matplotlib.pyplot as plt

        figure.savefig(self.path("png", part))
        plt.close(figure)

    def record(self, facts: Mapping[str, object], rivals: Sequence[str] = ()) -> None:
        """Writes seeds and other facts, with versions and hardware, as JSON."""
        content = {**facts, **environment(rivals), **facts}
        self.path("json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
