"""What holds for every command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import Result

from optuna_peppp.cli import app

COMMANDS = (
    "tune",
    "recommend",
    "collect",
    "fit",
    "corpus info",
    "corpus merge",
    "evaluate",
    "memory",
)

BAD = {
    "data set": (["tune", "--data", "mnist"], "data set must be digits"),
    "network": (["tune", "--network", "alexnet"], "network must be one of plain3"),
    "storage": (["tune", "--storage", "tune.txt"], "storage must be a database URL"),
    "storage kind": (["tune", "--storage", "nosuch://x"], "cannot be opened"),
    "corpus": (["tune", "--corpus", "nosuch"], "a corpus that ships"),
    "corpus file": (["tune", "--corpus", "nosuch.csv"], "nosuch.csv"),
    "memory cap": (["tune", "--memory-cap", "much"], "a size must be"),
    "measurement cap": (["tune", "--measurement-cap", "1kB"], "the smallest needs"),
    "device": (["tune", "--device", "abacus"], "device must be"),
    "meta": (["tune", "--meta", "nosuch.npz"], "nosuch.npz; `optuna-peppp fit` writes one"),
    "format": (["collect", "digits", "--configuration", "1-4/1-6-7"], "sign-exponent-mantissa"),
    "no pair": (["collect", "digits", "--configuration", "1-4-3"], "must be FORMAT_A/FORMAT_B"),
    "not ours": (["collect", "digits", "--configuration", "1-8-3/1-6-7"], "Table 3"),
    "npz": (["collect", "npz:nosuch.npz"], "nosuch.npz"),
    "to collect on": (["collect", "digits", "--device", "abacus"], "device must be"),
    "nothing to fit": (["fit"], "give --storage, --corpus or both"),
    "prefix of nothing": (["fit", "--study-prefix", "a"], "--study-prefix chooses studies"),
    "no storage": (["fit", "--storage", "sqlite:///no.db"], "the file no.db does not exist"),
    "no journal": (["fit", "--storage", "no.journal"], "the file no.journal does not exist"),
    "in memory": (["fit", "--storage", "sqlite://"], "cannot be opened"),
    "driver": (["fit", "--storage", "postgresql+nosuch://h/x"], "cannot be opened"),
    "corpus to fit": (["fit", "--corpus", "nosuch.csv"], "nosuch.csv"),
    "corpus to show": (["corpus", "info", "nosuch"], "A file of your own"),
    "corpus to merge": (["corpus", "merge", "nosuch.csv"], "nosuch.csv"),
    "small image": (["memory", "--network", "vgg11"], "at least 32x32"),
    "paper": (["memory", "--accounting", "paper"], "accounting 'paper' knows"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(
    name: str,
    invoke: Callable[..., Result],
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "tune" and not {"--corpus", "--meta"} & set(arguments):
        arguments = [*arguments, "--corpus", str(corpus)]
    if arguments[0] == "collect":
        arguments = ["collect", "--device", "cpu", *arguments[1:], "--storage", "out.journal"]
    if arguments[0] == "fit" or arguments[:2] == ["corpus", "merge"]:
        arguments = [*arguments, "--output", "out"]
    result = invoke(*arguments, code=2)
    assert message in result.output
    assert result.output.startswith("Error: ")
    assert len(result.output.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_every_command_and_option_is_documented() -> None:
    commands = dict(_commands(typer.main.get_command(app)))
    assert sorted(commands) == sorted(COMMANDS)
    for name, command in commands.items():
        assert command.help
        assert f"optuna-peppp {name}" in (command.epilog or "")
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name}: {parameter.name} has no help"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_shows_every_command(name: str) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert f"optuna-peppp {name}" in readme


def _commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The commands of a group and of the groups in it, by their whole names."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            assert command.help
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command
