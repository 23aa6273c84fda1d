from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from optuna_peppp import lowprecision
from optuna_peppp.lowprecision import compatibility

FOLDER = Path(lowprecision.__file__).parent
FILES = sorted(FOLDER.rglob("*.py"))


def private_names(tree: ast.AST) -> Iterator[str]:
    """Names of torch's modules that begin with an underscore, imported or reached through torch."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        for name in names:
            root, *parts = name.split(".")
            if root == "torch" and any(p.startswith("_") and not p.endswith("_") for p in parts):
                yield name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_private_names_are_gathered_in_one_file(path: Path) -> None:
    names = list(private_names(ast.parse(path.read_text())))
    assert bool(names) is (path.name == "compatibility.py"), names


def test_the_versions_tried_are_named() -> None:
    assert compatibility.__doc__ is not None
    assert "tried with PyTorch 2.14.1" in compatibility.__doc__


def test_storages_are_told_apart() -> None:
    x, y = torch.zeros(4), torch.zeros(4)
    assert compatibility.storage_key(x) == compatibility.storage_key(x[2:])
    assert compatibility.storage_key(x) != compatibility.storage_key(y)


def test_a_backward_pass_has_a_number_and_an_end() -> None:
    seen: list[int] = []
    ended: list[None] = []

    def hook(gradient: torch.Tensor) -> None:
        seen.append(compatibility.backward_pass())
        compatibility.at_the_end_of_backward(lambda: ended.append(None))
        assert not ended

    x = torch.ones(2, requires_grad=True)
    x.register_hook(hook)  # type: ignore[no-untyped-call]
    torch.autograd.backward(x.sum())
    assert seen[0] != -1 == compatibility.backward_pass()
    assert len(ended) == 1
