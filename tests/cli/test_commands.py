"""What holds for every command."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main
from typer.testing import Result

from optuna_peppp.cli import app
from optuna_peppp.cli.app import clear_errors, echo, in_a_folder

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
    "network": (["tune", "--network", "alexnet"], "network must be 'plain3'"),
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


WRITERS = {
    "fit": ("fit", "--corpus", "plain3-cifar100", "--output"),
    "merge": ("corpus", "merge", "plain3-cifar100", "--output"),
    "evaluate": ("evaluate", "--output"),
    "tune": ("tune", "--json"),
    "report": ("tune", "--report"),
    "collect": ("collect", "digits", "--storage", "a.journal", "--export"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_where_nothing_can_be_written_nothing_is_begun(
    name: str, invoke: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.chdir(tmp_path)
    for path, problem in (
        ("none/file", "there is no folder none"),
        ("/dev/null", "is no file that can be replaced"),
        ("/proc/file", "the folder /proc cannot be written to"),
        (str(tmp_path), "is a directory"),
    ):
        result = invoke(*WRITERS[name], path, code=2)
        assert problem in result.stderr
        assert not result.stdout
    assert not list(tmp_path.iterdir())


def test_folders_and_files_of_others_are_refused() -> None:
    folder = Path(tempfile.mkdtemp())
    files = folder / "open" / "file", folder / "closed" / "file"
    for file in files:
        file.parent.mkdir()
        file.touch()
        file.chmod(0o444)
    folder.chmod(0o755)
    files[0].parent.chmod(0o777)
    files[1].parent.chmod(0o555)
    user = os.geteuid()
    if user == 0:  # who may do everything becomes somebody else for a while
        os.seteuid(65534)
    try:
        assert in_a_folder(files[0].with_name("new")) == files[0].with_name("new")
        with pytest.raises(typer.BadParameter, match="may not be written"):
            in_a_folder(files[0])
        with pytest.raises(typer.BadParameter, match="cannot be written to"):
            in_a_folder(files[1].with_name("new"))
    finally:
        os.seteuid(user)
        for file in files:
            file.parent.chmod(0o755)
        shutil.rmtree(folder)


HOSTILE = "a\x1b]0;PWNED\x07\x1b[2J\u202eb\r\nError: c\ud800"


@pytest.mark.parametrize("err", [False, True])
def test_output_obeys_no_name(capsys: pytest.CaptureFixture[str], err: bool) -> None:
    echo(f"{HOSTILE}\nend", err=err)
    shown = capsys.readouterr()
    lines = (shown.err if err else shown.out).splitlines()
    assert lines == ["a\\x1b]0;PWNED\\x07\\x1b[2J\\u202eb\\r", "Error: c\\ud800", "end"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError(HOSTILE), "a\\x1b]0;PWNED\\x07\\x1b[2J\\u202eb\\r\\nError: c\\ud800"),
        (FileNotFoundError(2, "No such file", "a\x1bb"), "[Errno 2] No such file: 'a\\x1bb'"),
        (
            MemoryError("Unable to allocate 57.8 GiB"),
            "not enough memory: Unable to allocate 57.8 GiB",
        ),
    ],
)
def test_errors_are_one_line_whatever_they_name(
    capsys: pytest.CaptureFixture[str], error: Exception, line: str
) -> None:
    with pytest.raises(typer.Exit) as caught, clear_errors():
        raise error
    assert caught.value.exit_code == 2
    assert capsys.readouterr().err == f"Error: {line}\n"


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
