from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from optuna_peppp.configurations.data import (
    CIFAR100_SUPERCLASSES,
    DATA_KINDS,
    is_own,
    is_text,
    parse_name,
)
from optuna_peppp.text import quoted


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("digits", ("digits", "")),
        ("cifar10", ("cifar10", "")),
        ("cifar100", ("cifar100", "")),
        ("cifar100:flowers", ("cifar100", "flowers")),
        ("npz:a:b.npz", ("npz", "a:b.npz")),
        ("folder:~/images", ("folder", "~/images")),
        ("text:~/books", ("text", "~/books")),
        ("python:topics", ("python", "topics")),
    ],
)
def test_a_kind_and_what_follows_its_colon(name: str, parts: tuple[str, str]) -> None:
    assert parse_name(name) == parts
    assert parts[0] in DATA_KINDS


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("imgs", "folder:imgs"),
        ("./imgs", "folder:./imgs"),
        ("here.npz", "npz:here.npz"),
        ("nowhere.npz", "npz:nowhere.npz"),
        ("a file", "npz:a file"),
        ("cifar-10", "cifar10"),
        ("Digits", "digits"),
        ("flowers", "cifar100:flowers"),
        ("nzp:here.npz", "npz:here.npz"),
        ("folders:imgs", "folder:imgs"),
    ],
)
def test_what_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imgs").mkdir()
    (tmp_path / "here.npz").touch()
    (tmp_path / "a file").touch()
    with pytest.raises(ValueError, match=re.escape(f"got {name!r}. Did you mean {meant!r}?")):
        parse_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "mnist",
        "",
        "npz",
        "folder",
        "npz:",
        "text",
        "text:",
        "python",
        "python:",
        "x" * 5000,
        "a\0b",
        "~no~",
        3,
    ],
)
def test_nothing_was_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="data set must be digits, cifar10, ") as caught:
        parse_name(name)
    assert str(caught.value).endswith(f"got {quoted(name)}")


def test_an_unknown_superclass() -> None:
    with pytest.raises(ValueError, match=r"got .flower.[.] Did you mean .flowers.[?]"):
        parse_name("cifar100:flower")
    assert len({name for fine in CIFAR100_SUPERCLASSES.values() for name in fine}) == 100


def test_an_unknown_text_of_python() -> None:
    with pytest.raises(ValueError, match=r"got .topic.[.] Did you mean .topics.[?]"):
        parse_name("python:topic")


def test_texts_are_told_from_modules() -> None:
    names = ("text:book", "python:topics", "digits", "folder:imgs", "tests:data", "mine:text")
    assert [is_text(name) for name in names] == [True, True, False, False, False, False]
    assert [is_own(name) for name in names] == [False, False, False, False, True, True]


def test_names_are_read_without_torch() -> None:
    code = (
        "import sys; import optuna_peppp.configurations.data, optuna_peppp.configurations.names; "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
