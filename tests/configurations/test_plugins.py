from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from optuna_peppp.configurations.plugins import call_plugin, is_plugin, load_plugin


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".")])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("mine:network", True),
        ("my.package.nets:build_2", True),
        ("plain3", False),
        ("npz:file.npz", False),
        ("folder:~/images", False),
        ("mine:", False),
        (":network", False),
        ("my-nets:build", False),
        ("a:b:c", False),
        (3, False),
    ],
)
def test_the_form_of_a_name(name: object, is_one: bool) -> None:
    assert is_plugin(name) is is_one


def test_a_module_of_the_working_folder_and_of_a_package_in_it(folder: Path) -> None:
    (folder / "mine_a.py").write_text("def train(params, recipe, seed): return seed / 4\n")
    (folder / "nets").mkdir()
    (folder / "nets" / "small.py").write_text("class Net:\n    def __init__(self, data): ...\n")
    assert call_plugin("train", "mine_a:train", {}, None, 2) == 0.5
    assert load_plugin("network", "nets.small:Net").__name__ == "Net"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def nework(data): ...", "module mine_b has no 'network'; did you mean mine_b:nework?"),
        ("", "module mine_b has no 'network'; define it there, or name another"),
        ("network = 3", "must be a function, def network(data); it is of type int"),
        ("def network(): ...", "must be callable as def network(data); it takes () ("),
        ("def network(a, b): ...", "must be callable as def network(data); it takes (a, b) ("),
        ("import not_there", "importing mine_b fails: ModuleNotFoundError: No module named"),
        ("1 / 0", "importing mine_b fails: ZeroDivisionError: division by zero"),
        ("def network(", "importing mine_b fails: SyntaxError"),
    ],
)
def test_what_is_wrong_is_told_without_a_call(folder: Path, source: str, told: str) -> None:
    (folder / "mine_b.py").write_text(source)
    with pytest.raises(ValueError, match=f"^network mine_b:network.*{re.escape(told)}"):
        load_plugin("network", "mine_b:network")


def test_a_module_that_is_not_there(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"no module mine_c, .* run the command where mine_c.py"):
        load_plugin("data", "mine_c:load")
    with pytest.raises(ValueError, match=r"^train must be package.module:function.*'train.py'"):
        load_plugin("train", "train.py")


def test_an_exception_of_a_plugin_names_its_line(folder: Path) -> None:
    (folder / "mine_d.py").write_text("def data():\n    return {}['images']\n")
    with pytest.raises(
        ValueError, match=r"^data mine_d:data fails: KeyError: 'images' \(.*mine_d.py, line 2\)$"
    ):
        call_plugin("data", "mine_d:data")
