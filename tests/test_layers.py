"""The architecture: imports point down only, and importing the package is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import optuna_peppp

ROOT = Path(optuna_peppp.__file__).parent

LAYERS = (
    {"arrays", "choices", "files", "pareto", "processes", "singular", "text", "threads"},
    {"numerals", "growth"},
    {"sizes"},
    {"configurations"},
    {"corpora", "lowprecision"},
    {"completion"},
    {"meta"},
    {"acquisition"},
    {"prediction"},
    {"studies"},
    {"collecting", "evaluation"},
    {"visualization"},
    {"report"},
    {"cli"},
    {"__main__", "examples"},
)
"""Folders, and the modules beside them, from the ground up."""

LOW_PRECISION = (
    {"compatibility"},
    {"rounding", "networks", "datasets"},
    {"simulation"},
    {"memory"},
    {"training"},
)

MAY_IMPORT = {
    "torch": {"lowprecision", "examples"},
    "torchvision": {"lowprecision"},
    "qtorch": {"lowprecision"},
    "optuna": {"studies", "collecting", "cli", "visualization", "examples"},
}
"""Where a library may be imported; examples are a user's programs. ConfigurationSpace speaks
Optuna's language, too, and imports it when it is called."""

FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


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


def _name(path: Path) -> str:
    """The module of a file, from the package on; a folder for its __init__."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _within(path: Path, folder: str = "") -> set[str]:
    """Modules of this package below a folder that a file imports, from that folder on."""
    prefix = ".".join(("optuna_peppp", *([folder] if folder else []), ""))
    return {
        name.removeprefix(prefix)
        for name in _imports(path, at_run_time=False)
        if name.startswith(prefix)
    }


def _rank(layers: tuple[set[str], ...], name: str) -> int:
    ranks = [rank for rank, layer in enumerate(layers) if name in layer]
    assert len(ranks) == 1, f"{name} must stand in exactly one layer"
    return ranks[0]


def _check(layers: tuple[set[str], ...], path: Path, folder: str = "") -> None:
    own = path.relative_to(ROOT / folder.replace(".", "/")).with_suffix("").parts[0]
    for name in {imported.split(".")[0] for imported in _within(path, folder)} - {own}:
        if (ROOT / folder / name).is_dir() or (ROOT / folder / f"{name}.py").exists():
            assert _rank(layers, name) < _rank(layers, own), f"{_name(path)} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_imports_point_down(path: Path) -> None:
    _check(LAYERS, path)


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parent.parent == ROOT / "lowprecision"], ids=_name
)
def test_low_precision_imports_point_down(path: Path) -> None:
    _check(LOW_PRECISION, path, "lowprecision")


def test_no_module_imports_itself_by_way_of_others() -> None:
    modules = {_name(path): path for path in FILES if path.stem != "__init__"}
    graph = {name: _within(path) & modules.keys() for name, path in modules.items()}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("library", MAY_IMPORT)
def test_a_library_is_imported_in_its_rooms_only(library: str) -> None:
    importers = {
        _name(path).split(".")[0]
        for path in FILES
        if any(name.split(".")[0] == library for name in _imports(path, at_run_time=True))
    }
    assert importers <= MAY_IMPORT[library] | ({"configurations"} if library == "optuna" else set())


def test_only_the_space_speaks_to_optuna_among_configurations() -> None:
    importers = {
        path.stem
        for path in (ROOT / "configurations").glob("*.py")
        if any(name.split(".")[0] == "optuna" for name in _imports(path, at_run_time=True))
    }
    assert importers == {"space"}


@pytest.mark.parametrize(
    "path", [path for path in ROOT.rglob("__init__.py") if path.parent != ROOT], ids=_name
)
def test_folders_hold_no_logic(path: Path) -> None:
    allowed = ast.Expr | ast.ImportFrom | ast.Assign
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        assert isinstance(node, allowed), f"{path}, line {node.lineno}"
        if isinstance(node, ast.Assign):
            assert [ast.unparse(target) for target in node.targets] == ["__all__"]


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_a_file_answers_one_question(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300, "split it by question"


def test_importing_the_package_is_light() -> None:
    heavy = ["torch", "torchvision", "optuna", "sklearn", "matplotlib", "plotly"]
    code = (
        "import sys, optuna_peppp, optuna_peppp.cli, optuna_peppp.meta.model\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_sampling_loads_no_torch() -> None:
    """What an Optuna user imports, who trains with whatever they like."""
    code = (
        "import sys, optuna_peppp\n"
        "optuna_peppp.PEPPPSampler, optuna_peppp.MetaModel, optuna_peppp.predict\n"
        "print([name for name in ('torch', 'torchvision') if name in sys.modules])"
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
