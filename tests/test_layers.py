"""The architecture: imports point down only, and importing the package is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import optuna_peppp

ROOT = Path(optuna_peppp.__file__).parent

LAYERS = (
    {"text"},
    {"numerals"},
    {"formats", "sizes", "pareto", "design", "sampling", "proximal", "transforms", "repeats"}
    | {"archive", "choices", "credentials", "journal", "processes"},
    {"patience"},
    {"life", "storage"},
    {"space", "completion", "posterior", "csvfile"},
    {"fields", "lowprecision", "selection", "prior", "validation"},
    {"table", "factor_analysis", "acquisition", "cold", "metafile"},
    {"learning"},
    {"matrix"},
    {"meta", "trials", "claims"},
    {"prediction", "strategies", "planning"},
    {"sampler", "quality"},
    {"study", "tasks", "leaving_out"},
    {"progress", "memo", "turns"},
    {"tuning", "collect", "report", "evaluation"},
    {"visualization"},
    {"cli"},
    {"__main__"},
)
LOW_PRECISION = (
    {"quantize", "models", "memory", "datasets", "randomness", "loss_scale"},
    {"scheme", "batches"},
    {"modules"},
    {"optimizer", "tf32"},
    {"step"},
    {"training"},
    {"experiment", "hardware"},
)
MAY_IMPORT_OPTUNA = {"journal", "patience", "storage", "life", "claims", "tasks"} | {
    "trials",
    "sampler",
    "study",
    "tuning",
    "turns",
    "cli",
}


def _imports(path: Path, *, at_run_time: bool) -> Iterator[str]:
    """Modules that a file imports anywhere, those for type checking only left out on demand."""
    stack: list[ast.AST] = [ast.parse(path.read_text())]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif at_run_time and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            stack.extend(node.orelse)
        else:
            stack.extend(ast.iter_child_nodes(node))


def _modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.py") if path.stem != "__init__")


def _rank(layers: tuple[set[str], ...], name: str) -> int:
    ranks = [rank for rank, layer in enumerate(layers) if name in layer]
    assert len(ranks) == 1, f"{name} must stand in exactly one layer"
    return ranks[0]


@pytest.mark.parametrize("path", _modules(ROOT), ids=lambda path: path.stem)
def test_imports_point_down(path: Path) -> None:
    names = {
        name.split(".")[1]
        for name in _imports(path, at_run_time=False)
        if name.startswith("optuna_peppp.")
    }
    for name in names - {path.stem}:
        if (ROOT / f"{name}.py").exists() or (ROOT / name).is_dir():
            assert _rank(LAYERS, name) < _rank(LAYERS, path.stem), f"{path.stem} imports {name}"


@pytest.mark.parametrize("path", _modules(ROOT / "lowprecision"), ids=lambda path: path.stem)
def test_low_precision_imports_point_down(path: Path) -> None:
    prefix = "optuna_peppp.lowprecision."
    for imported in _imports(path, at_run_time=False):
        if imported.startswith(prefix):
            name = imported.removeprefix(prefix).split(".")[0]
            assert _rank(LOW_PRECISION, name) < _rank(LOW_PRECISION, path.stem)
        elif imported.startswith("optuna_peppp."):
            name = imported.split(".")[1]
            assert _rank(LAYERS, name) < _rank(LAYERS, "lowprecision")


@pytest.mark.parametrize("path", _modules(ROOT / "cli"), ids=lambda path: path.stem)
def test_commands_import_point_down(path: Path) -> None:
    for name in _imports(path, at_run_time=False):
        shared = name.startswith(("optuna_peppp.cli.app", "optuna_peppp.cli.warned"))
        if name.startswith("optuna_peppp.") and not shared:
            assert _rank(LAYERS, name.split(".")[1]) < _rank(LAYERS, "cli"), name


@pytest.mark.parametrize("path", _modules(ROOT), ids=lambda path: path.stem)
def test_only_low_precision_imports_torch(path: Path) -> None:
    roots = {name.split(".")[0] for name in _imports(path, at_run_time=False)}
    assert not roots & {"torch", "torchvision", "qtorch"}


def test_only_the_optuna_layer_imports_optuna() -> None:
    folders = (ROOT, ROOT / "lowprecision", ROOT / "cli")
    importers = {
        path.relative_to(ROOT).with_suffix("").parts[0]
        for folder in folders
        for path in _modules(folder)
        if any(name.split(".")[0] == "optuna" for name in _imports(path, at_run_time=True))
    }
    # ConfigurationSpace.distributions() speaks Optuna's language, and imports it when called.
    assert importers == MAY_IMPORT_OPTUNA | {"space"}


def test_importing_the_package_is_light() -> None:
    heavy = ["torch", "torchvision", "optuna", "sklearn", "matplotlib", "plotly"]
    code = (
        "import sys, optuna_peppp, optuna_peppp.cli, optuna_peppp.meta, optuna_peppp.space\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_public_names_resolve() -> None:
    for name in optuna_peppp.__all__:
        assert getattr(optuna_peppp, name).__name__ == name
    assert set(optuna_peppp.__all__) == set(optuna_peppp._MODULES) == set(dir(optuna_peppp))


def test_unknown_public_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sampler'"):
        optuna_peppp.Sampler  # noqa: B018
