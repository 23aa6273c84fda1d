"""Makes the folder that OptunaHub's registry takes, and checks it.

The folder holds ``package/samplers/peppp``, to be copied into a checkout of the registry: a page
with front matter, the module, an example, a picture and the license. Versions are those that are
installed, numbers those of results/compare/regret.csv, the page's example is the file beside it.
Where optunahub is installed, the package is loaded by it and its example is run.

    python -m benchmarks.optunahub [--output FOLDER]
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import jinja2

from benchmarks.harness.script import BENCHMARKS, RESULTS, installed
from benchmarks.harness.tables import markdown, read
from benchmarks.optunahub.checks import problems, run_example

PACKAGE: Final = "samplers/peppp"

_SOURCES: Final = Path(__file__).with_name("peppp")
_COUNTS: Final = ("1", "3", "6", "10", "20")
_SHOWN: Final = {
    "random": "RandomSampler",
    "nsga2": "NSGAIISampler",
    "tpe": "TPESampler",
    "gp": "GPSampler",
    "bayesian": "PEPPPSampler",
}
"""Samplers by their names in the results."""


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the folder, and ends with 1 where it is not what the registry asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=Path("build/optunahub"), help="default: %(default)s"
    )
    registry: Path = parser.parse_args(argv).output / "package"
    folder = write(registry)
    print(f"{folder} is written.")
    found = problems(folder)
    if found:
        sys.exit("\n".join(found))
    if installed("optunahub") is None:
        print("It was not loaded: optunahub is not installed.", file=sys.stderr)
    else:
        run_example(registry, PACKAGE)
        print(f"optunahub {installed('optunahub')} loads it, and its example runs.")


def write(registry: Path) -> Path:
    """Writes the package below a registry's folder ``package``, and returns its own folder."""
    folder = registry / PACKAGE
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name in ("__init__.py", "example.py"):
        shutil.copyfile(_SOURCES / name, folder / name)
    shutil.copyfile(BENCHMARKS.parent / "LICENSE", folder / "LICENSE")
    shutil.copyfile(RESULTS / "digits_truth.png", folder / "images" / "frontier.png")
    (folder / "README.md").write_text(page(), encoding="utf-8")
    return folder


def page() -> str:
    """The package's README.md."""
    environment = jinja2.Environment(
        keep_trailing_newline=True, undefined=jinja2.StrictUndefined, autoescape=False
    )
    rows = [row for row in read(RESULTS / "compare" / "regret.csv") if row["corpus"] == "corpus"]
    template = (_SOURCES / "README.md.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        optuna_version=installed("optuna"),
        tasks=max(int(row["tasks"]) for row in rows),
        table=_table(rows),
        example=(_SOURCES / "example.py").read_text(encoding="utf-8"),
    )


def _table(rows: Sequence[dict[str, str]]) -> str:
    """Regret by sampler and number of trials."""
    regret = {(row["sampler"], row["measurements"]): float(row["regret"]) for row in rows}
    lines = [
        [label, *(f"{regret[name, count]:.3f}" for count in _COUNTS)]
        for name, label in _SHOWN.items()
    ]
    return markdown([["trials", *_COUNTS], *lines])


if __name__ == "__main__":
    main()
