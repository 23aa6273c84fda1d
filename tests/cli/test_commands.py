"""What holds for every command."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main
from rich.console import Group
from rich.text import Text
from typer.testing import Result

import optuna_peppp
from optuna_peppp.cli import app
from optuna_peppp.cli.checks import check_data, check_size
from optuna_peppp.cli.options import in_a_folder
from optuna_peppp.cli.output import clear_errors, clear_warnings, echo, show

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
    "text": (["tune", "--network", "gpt", "--data", "text:no"], "no file or folder no"),
    "text of images": (["tune", "--network", "gpt"], "takes texts, and data digits is of images"),
    "images of text": (["collect", "python:topics", "--storage", "x.journal"], "takes images, and"),
    "size of a text": (
        ["tune", "--network", "gpt", "--data", "python:topics", "--image-size", "8"],
        "image_size must be left out",
    ),
    "width": (["tune", "--network", "vit", "--width", "20"], "must be a multiple of 16; got 20"),
    "depth": (["memory", "--depth", "2"], "depth must be left out with network plain3"),
    "patches": (["memory", "--network", "vit", "--image-size", "18"], "multiples of 4; got 18x18"),
    "storage": (["tune", "--storage", "tune.txt"], "storage must be a database URL"),
    "storage kind": (["tune", "--storage", "nosuch://x"], "cannot be opened"),
    "corpus": (["tune", "--corpus", "nosuch"], "a corpus that ships"),
    "corpus file": (["tune", "--corpus", "nosuch.csv"], "nosuch.csv"),
    "memory cap": (["tune", "--memory-cap", "much"], "a size must be"),
    "measurement cap": (["tune", "--measurement-cap", "1kB"], "the smallest needs"),
    "no unit": (["tune", "--memory-cap", "2.8"], "did you mean 2.8MB?"),
    "no unit to measure": (["tune", "--measurement-cap", "3"], "did you mean 3MB?"),
    "spelling": (["tune", "--data", "digist"], "Did you mean 'digits'?"),
    "file": (["tune", "--data", "npz:bad.npz"], "there is no file bad.npz"),
    "folder": (["tune", "--data", "folder:imgs"], "there is no folder imgs"),
    "database": (["tune", "--storage", "t1.db"], "Did you mean sqlite:///t1.db?"),
    "no suffix": (["tune", "--storage", "t1"], "Did you mean t1.journal?"),
    "near network": (["tune", "--network", "resnet81"], "Did you mean 'resnet18'?"),
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
    *before, last = result.output.splitlines()
    assert last.startswith("Error: ")
    # What needs torch to be checked is checked after it was told what happens.
    assert [line.split()[0] for line in before] in ([], ["Tuning", "Learning"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["tune", "--strategy", "bayesain"],
        ["tune", "--rounding", "stochastik"],
        ["evaluate", "--strategy", "bayesain"],
        ["evaluate", "--scheme", "unifrom"],
        ["memory", "--accounting", "papre"],
    ],
)
def test_an_unknown_choice_names_the_nearest(
    arguments: list[str], invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    assert "Did you mean '" in invoke(*arguments, code=2).stderr


@pytest.mark.parametrize("storage", ["me:hunter2@host", "sqlite://me:hunter2@/x"])
def test_no_message_repeats_a_password(storage: str, invoke: Callable[..., Result]) -> None:
    assert "hunter2" not in invoke("recommend", "--storage", storage, code=2).output


def test_a_data_set_of_nearly_that_name(tmp_path: Path) -> None:
    (tmp_path / "pathmnist.npz").touch()
    with pytest.raises(ValueError, match=rf"Did you mean npz:{tmp_path}/pathmnist\.npz\?"):
        check_data(f"npz:{tmp_path}/pathmnst.npz")


@pytest.mark.parametrize("size", [None, "1000", "2.8kB", "999 B", "1e9"])
def test_sizes_that_can_be_meant(size: str | None) -> None:
    check_size("--memory-cap", size)


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--memory-cap", "2.8"], ["--storage", "t1.db"], ["--corpus", "nosuch.csv"]),
        *(["--data", "imgs"], ["--network", "alexnet"], ["--json", "none/out.json"]),
    ],
)
def test_arguments_are_checked_before_torch_is_imported(
    arguments: list[str], tmp_path: Path
) -> None:
    code = (
        "import sys; from optuna_peppp.cli import app\n"
        "try: app(['tune', *sys.argv[1:]])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "2 False\n"


def test_version(invoke: Callable[..., Result]) -> None:
    version = importlib.metadata.version("optuna_peppp")
    assert optuna_peppp.__version__ == version
    assert invoke("--version").stdout == f"optuna-peppp {version}\n"


def test_other_libraries_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with clear_warnings():
        logging.getLogger("torch._inductor").error("W1126 No CUDA runtime is found")
        warnings.warn("of another library", UserWarning, stacklevel=1)
        warnings.warn_explicit("a\x1b[2Jb", UserWarning, "x.py", 1, "optuna_peppp.studies.x")
    assert capsys.readouterr().err == "Warning: a\\x1b[2Jb\n"
    assert logging.getLogger("torch._inductor").isEnabledFor(logging.ERROR)


@pytest.mark.parametrize(("terminal", "colour"), [("1", True), ("", False)])
def test_tables_have_colour_on_a_terminal_only(
    terminal: str,
    colour: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", terminal)
    show(Group(Text("best", style="bold green")))
    assert ("\x1b[" in capsys.readouterr().out) == colour


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
