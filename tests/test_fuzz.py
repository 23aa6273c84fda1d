"""Whatever a file, a name or an option holds: the right answer, or one sentence and no traceback.

Files that are right are damaged, and given to the command line. Where a damaged corpus is still
accepted, what is printed and written is compared with a second reader, below, of a few lines.
``FUZZ=10`` tries ten times as much.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from PIL import Image
from typer.testing import CliRunner

from optuna_peppp.cli import app
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.meta import archive
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.sizes import parse_size

PASSWORD = "hunter2"


def fuzzed(examples: int) -> settings:
    """The same examples in every run, and no limit on what one may take."""
    return settings(
        max_examples=examples * int(os.environ.get("FUZZ", "1")),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def run(*arguments: str | Path, outcome: Sequence[int] = (0, 1, 2)) -> tuple[int, str]:
    """Runs a command: its exit code and what it printed, both checked."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in outcome, result.output
    shown = result.stdout + result.stderr
    assert all(letter.isprintable() or letter in "\n\r" for letter in shown), ascii(shown)
    assert "Traceback" not in shown
    assert PASSWORD not in shown
    assert not re.search(r"(?<![\w'\"`/.-])(nan|inf)(?![\w'\"`/.-])", result.stdout), result.stdout
    if result.exit_code:
        last = result.stderr.rstrip().splitlines()[-1]
        is_usage = "Usage: " in result.stderr
        assert last.startswith("Error: ") or is_usage, result.stderr
        assert is_usage or len(last) < 2000, last
    return result.exit_code, result.stdout


# Corpora

FIELDS = st.sampled_from(
    [
        *("", " ", "0", "1", "0.5", "-0.5", "1.5", "1e-3", ".5", "5.", "1e999", "-1", "00", "1_0"),
        *("\uff11", "0x1", "nan", "inf", "+.5", "NaN", "1-4-3", "1-3-1", "1-9-9", "1-4", "a", "b"),
        *(
            "a ",
            " a",
            "\u00a0a",
            "=1+1",
            "@x",
            "-a",
            "+a",
            "-",
            "a\x1b[2J",
            "\x07",
            "\u202ea",
            "\x00",
        ),
        *(
            '"',
            '"a',
            'a"',
            '""',
            '"a""b"',
            "'",
            "a,b",
            "a\nb",
            "\r",
            ",",
            "\ufeff",
            "\u2028",
            "None",
        ),
        *("true", "x" * 5000, "9" * 5000, "task", "memory", "[31m", "%s", "{}", "../a", "\u202ea"),
    ]
)
HEADER = ["task", "model", "format_a", "rate", "error", "memory", "seed"]
ROWS = [
    [task, "net", form, rate, f"0.{number}", str(1000 + number), "0"]
    for number, (task, form, rate) in enumerate(
        ((t, f, r) for t in ("a", "b", "c") for f in ("1-3-1", "1-4-3") for r in ("0.1", "0.01")), 1
    )
]


@st.composite
def corpora(draw: st.DrawFn) -> bytes:
    """A corpus of three tasks and four configurations, damaged."""
    table = [list(row) for row in (HEADER, *ROWS)]
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(
            st.sampled_from(["cell", "cell", "header", "drop", "double", "column", "ragged"])
        )
        row = draw(st.integers(0, len(table) - 1))
        column = draw(st.integers(0, len(table[row]) - 1)) if table[row] else 0
        if kind in ("cell", "header") and table[row]:
            table[0 if kind == "header" else row][column % len(table[0] or [0])] = draw(FIELDS)
        elif kind == "drop" and len(table) > 1:
            del table[row]
        elif kind == "double":
            table.insert(draw(st.integers(0, len(table))), list(table[row]))
        elif kind == "column":
            for line in table:
                del line[column : column + 1]
        elif kind == "ragged":
            table[row].insert(column, draw(FIELDS))
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    quote = draw(st.booleans())
    if quote:
        text = io.StringIO()
        csv.writer(text, lineterminator=end).writerows(table)
        content = text.getvalue().encode()
    else:
        content = end.join(",".join(row) for row in table).encode()
    encoding = draw(
        st.sampled_from(["utf-8"] * 8 + ["utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
    )
    if encoding != "utf-8":
        content = content.decode().encode(encoding, errors="replace")
    if draw(st.integers(0, 5)) == 0 and content:
        flipped = bytearray(content)
        for _ in range(draw(st.integers(1, 3))):
            flipped[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
        content = bytes(flipped[: draw(st.just(len(content)) | st.integers(0, len(content)))])
    return content


Entries = dict[tuple[object, ...], tuple[float, float]]
NUMBER = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


def read_again(
    content: bytes,
) -> dict[tuple[str, str], dict[tuple[object, ...], tuple[float, float]]]:
    """Errors and memory by task, network and configuration, from what was accepted already."""
    lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    table = [[field.strip() for field in line] for line in lines]
    header, *rows = [line for line in table if any(line)]
    tuned = header[: header.index("memory")]
    tuned = [name for name in tuned if name not in ("task", "model", "error", "memory")]
    columns = {name: [row[header.index(name)] for row in rows] for name in tuned}

    def value(name: str, text: str) -> object:
        if name.startswith("format_"):
            return tuple(map(int, text.split("-")))
        return float(text) if all(map(NUMBER.fullmatch, columns[name])) else text

    measured: dict[tuple[str, str], dict[tuple[object, ...], list[tuple[float, str]]]] = {}
    for row in rows:
        fields = dict(zip(header, row, strict=True))
        key = tuple(value(name, fields[name]) for name in tuned)
        task = measured.setdefault((fields["task"], fields.get("model", "")), {})
        task.setdefault(key, []).append((float(fields["error"]), fields["memory"]))

    def mean(numbers: list[float]) -> float:
        return sum(numbers) / len(numbers) if numbers else math.nan

    return {
        task: {
            key: (mean([e for e, _ in found]), mean([float(m) for _, m in found if m]))
            for key, found in entries.items()
        }
        for task, entries in measured.items()
    }


def check_same(content: bytes, matrix: ErrorMatrix) -> None:
    """Compares what was read with what the second reader finds."""
    again = read_again(content)
    models = matrix.models or ("",) * len(matrix.tasks)
    assert list(zip(matrix.tasks, models, strict=True)) == list(again)
    for row, entries in enumerate(again.values()):
        observed = np.flatnonzero(matrix.observed[row])
        pairs = zip(matrix.errors[row, observed], matrix.memory[row, observed], strict=True)
        ours = sorted((e, -1.0 if np.isnan(m) else m) for e, m in pairs)
        theirs = sorted((e, -1.0 if math.isnan(m) else m) for e, m in entries.values())
        np.testing.assert_allclose(np.reshape(ours, (-1, 2)), np.reshape(theirs, (-1, 2)))
    errors = [error for entries in again.values() for error, _ in entries.values()]
    assert np.isclose(np.nansum(matrix.errors), sum(errors))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@fuzzed(150)
@given(content=corpora())
def test_a_damaged_corpus_is_refused_or_read_rightly(folder: Path, content: bytes) -> None:
    path, merged = folder / "corpus.csv", folder / "merged.csv"
    path.write_bytes(content)
    merged.unlink(missing_ok=True)
    code, shown = run("corpus", "info", path, outcome=(0, 2))
    if code:
        with pytest.raises(ValueError, match=r"corpus\.csv"):
            ErrorMatrix.read_csv(path)
        return
    matrix = ErrorMatrix.read_csv(path)
    check_same(content, matrix)
    lines = {line[:17].strip(): line[17:] for line in shown.splitlines()}
    assert lines["tasks"].startswith(f"{len(matrix.tasks)}: ")
    assert lines["observed"].startswith(
        f"{matrix.observed.sum()} of {matrix.observed.size} entries"
    )
    code, shown = run("corpus", "merge", path, "--output", merged, outcome=(0, 2))
    if code == 0:
        check_same(merged.read_bytes(), ErrorMatrix.read_csv(merged))
        np.testing.assert_allclose(ErrorMatrix.read_csv(merged).errors, matrix.errors)
    assert merged.exists() == (code == 0)


@fuzzed(15)
@given(content=corpora(), command=st.sampled_from(["fit", "evaluate"]))
def test_a_damaged_corpus_is_learned_from_or_refused(
    folder: Path, content: bytes, command: str
) -> None:
    path, output = folder / "corpus.csv", folder / "learned"
    path.write_bytes(content)
    output.unlink(missing_ok=True)
    quick = ("--strategy", "random-mf", "--measurements", "1") if command == "evaluate" else ()
    code, _ = run(command, "--corpus", path, "--rank", "1", "--output", output, *quick)
    assert output.exists() == (code == 0)
    if code == 0 and command == "fit":
        assert np.isfinite(MetaModel.load(output).predict([], [])[0]).all()


# Archives


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Flips bytes, cuts, repeats."""
    kind = draw(st.sampled_from(["flip", "flip", "cut", "insert", "repeat", "nothing"]))
    position, length = draw(st.floats(0, 1)), draw(st.integers(1, 64))
    other = draw(st.binary(min_size=1, max_size=64))

    def damaged(content: bytes) -> bytes:
        at = int(position * len(content))
        return {
            "flip": content[:at] + other[:4] + content[at + len(other[:4]) :],
            "cut": content[:at],
            "insert": content[:at] + other + content[at:],
            "repeat": content[:at] + content[max(0, at - length) :],
            "nothing": content,
        }[kind]

    return damaged


NASTY: st.SearchStrategy[object] = st.sampled_from(
    [
        *(None, True, -1, 0, 2**70, 1e999, math.nan, "", "x", "\x1b[2J", [], {}, [[]], [0], ["a"]),
        *([["x", [0]]], [["x", [0, 1, 2, 3]]], ["\x1b"] * 3, [1], [0], [2], "logit", "identity"),
    ]
)


@pytest.fixture(scope="module")
def learned(folder: Path) -> bytes:
    path = folder / "learned.npz"
    errors = np.random.default_rng(0).uniform(0.1, 0.9, (3, 4))
    space = ConfigurationSpace({"format_a": ["1-3-1", "1-4-3"], "format_b": ["1-6-7", "1-8-7"]})
    matrix = ErrorMatrix(space, ("a", "b", "c"), errors, np.ones((3, 4)))
    MetaModel.fit(matrix, rank=1).save(path)
    return path.read_bytes()


def refused(*arguments: str | Path) -> None:
    """Runs ``tune`` on what ends it before anything is trained."""
    run("tune", "--measurement-cap", "1B", *arguments, outcome=(1, 2))


@fuzzed(60)
@given(
    change=damage(),
    field=st.sampled_from(
        ["format", "version", "choices", "tasks", "selection", "transform", "ranks"]
    ),
    value=st.none() | NASTY,
    inside=st.booleans(),
)
def test_a_damaged_meta_model_is_refused_or_usable(
    folder: Path,
    learned: bytes,
    change: Callable[[bytes], bytes],
    field: str,
    value: object,
    inside: bool,
) -> None:
    path = folder / "meta.npz"
    path.write_bytes(learned)
    if inside:  # a header that lies
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop("header").tobytes()) | {field: value}
        archive.write(path, archive.Format("optuna_peppp.MetaModel", 4), header, arrays)
    path.write_bytes(change(path.read_bytes()))
    refused("--meta", path)
    try:
        meta = MetaModel.load(path)
    except ValueError as problem:
        assert "meta.npz" in str(problem)  # noqa: PT017 (either outcome is right)
    else:
        assert np.isfinite(meta.predict([0], [0.5])[0]).all()


@fuzzed(25)
@given(
    change=damage(), shape=st.sampled_from([(6, 4, 4, 3), (6, 4, 4), (6, 3, 4, 4), (6,), (0, 4, 4)])
)
def test_a_damaged_npz_file_is_refused(
    folder: Path, change: Callable[[bytes], bytes], shape: tuple[int, ...]
) -> None:
    path, buffer = folder / "data.npz", io.BytesIO()
    names = ("train_images", "train_labels", "test_images", "test_labels")
    labels = np.arange(6) % 2
    images = np.zeros(shape, dtype=np.uint8)
    arrays: dict[str, Any] = dict(zip(names, (images, labels, images, labels), strict=True))
    np.savez(buffer, allow_pickle=False, **arrays)
    path.write_bytes(change(buffer.getvalue()))
    refused("--data", f"npz:{path}", "--meta", folder / "learned.npz")


@pytest.mark.usefixtures("learned")
@fuzzed(15)
@given(
    change=damage(),
    name=st.sampled_from(["a.png", "a.jpg", ".hidden.png", "a.txt", "\x1b[2J.png", "a\nb.png"]),
    classes=st.lists(
        st.sampled_from(["cats", "dogs", ".git", "\x1b[2J", "train", "a b"]),
        max_size=3,
        unique=True,
    ),
)
def test_damaged_folders_of_images_are_refused(
    tmp_path_factory: pytest.TempPathFactory,
    folder: Path,
    change: Callable[[bytes], bytes],
    name: str,
    classes: list[str],
) -> None:
    root, buffer = tmp_path_factory.mktemp("images"), io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    for label in classes:
        (root / label).mkdir()
        (root / label / name).write_bytes(change(buffer.getvalue()))
    refused("--data", f"folder:{root}", "--meta", folder / "learned.npz")


# Storages and names

TEXTS = st.text(st.characters(exclude_characters="\x00"), max_size=12)


@fuzzed(60)
@given(
    scheme=st.sampled_from(
        ["postgresql", "mysql+pymysql", "sqlite", "redis", "nosuch", "", "\x1b[2J", "mysql+nosuch"]
    ),
    rest=st.sampled_from(
        [
            *(f"me:{PASSWORD}@/x", f"me:{PASSWORD}@[::1/x", f"me:{PASSWORD}@h:port/x"),
            *(f"/?password={PASSWORD}", f"me@/x?password={PASSWORD}&passwd={PASSWORD}"),
            *("/nosuch/a.db", "", "\x1b[2J", "//", "?", "/:memory:", "/\x1b[2J.db"),
        ]
    ),
    command=st.sampled_from(["recommend", "fit"]),
)
def test_storages_are_refused_without_their_passwords(
    folder: Path, scheme: str, rest: str, command: str
) -> None:
    storage = f"{scheme}://{rest}"
    output = ("--output", folder / "learned") if command == "fit" else ()
    run(command, "--storage", storage, *output, outcome=(1, 2))


@pytest.fixture(scope="module")
def journal(folder: Path) -> bytes:
    """Two studies that measured, one of them of a name that a terminal would obey."""
    path = folder / "past.journal"
    storage = JournalStorage(JournalFileBackend(str(path)))
    for name in ("a", "b\x1b[2J"):
        study = optuna.create_study(
            storage=storage, study_name=name, directions=["minimize", "minimize"]
        )
        study.optimize(
            lambda trial: (0.5, 100.0 + len(trial.suggest_categorical("x", ["u", "v\x07"]))),
            n_trials=4,
        )
    return path.read_bytes()


@fuzzed(40)
@given(change=damage(), name=TEXTS, command=st.sampled_from(["recommend", "fit"]))
def test_damaged_journals_are_read_or_refused(
    folder: Path, journal: bytes, change: Callable[[bytes], bytes], name: str, command: str
) -> None:
    path = folder / "damaged.journal"
    path.write_bytes(change(journal))
    if command == "recommend":
        run(command, "--storage", path, f"--study-name={name}", outcome=(1, 2))
    else:
        run(
            command, "--storage", path, f"--study-prefix={name[:1]}", "--output", folder / "learned"
        )


# Sizes and numbers


@fuzzed(300)
@given(
    st.text(max_size=12)
    | st.text("0123456789.eE+-_ kKmMgGtTiIbB\uff11\u0661", max_size=12)
    | st.from_regex(r"\A[0-9]{1,3}(\.[0-9]{0,3})?([eE][+-]?[0-9]{1,3})? ?[kKMGT]?i?[bB]?\Z")
)
def test_sizes_are_refused_or_right(text: str) -> None:
    units = {"": 1, "b": 1}
    for power, letter in enumerate("kmgt", start=1):
        units |= {f"{letter}b": 1000**power, f"{letter}ib": 1024**power}
    match = re.fullmatch(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)[ \t]*([a-zA-Z]*)", text.strip())
    try:
        expected = float(match[1]) * units[match[2].lower()] if match else math.nan
    except (KeyError, ValueError):
        expected = math.nan
    if 0 < expected < math.inf:
        assert parse_size(text) == expected
    else:
        with pytest.raises(ValueError, match="a size must be a positive number") as caught:
            parse_size(text)
        assert str(caught.value).isprintable()


OPTIONS = {
    "evaluate": ["--rank", "--seed", "--jobs", "--fraction", "--measurements", "--memory-cap"],
    "memory": ["--image-size", "--channels", "--classes", "--batch-size"],
    "tune": ["--trials", "--rank", "--epochs", "--batch-size", "--memory-cap", "--measurement-cap"],
}


@fuzzed(60)
@given(
    option=st.sampled_from(
        [(command, option) for command in OPTIONS for option in OPTIONS[command]]
    ),
    text=st.sampled_from(
        [
            *(
                "",
                " ",
                "-1",
                "0",
                "1_0",
                "\uff11",
                "nan",
                "inf",
                "0x1",
                "1e999",
                "9" * 5000,
                "1,,2",
            ),
            *(
                "\x1b[2J",
                "\x1b[2J1",
                "1\x07",
                "one",
                "1.5.2",
                "--",
                "1-",
                "\u202e1",
                "1e",
                "None",
                "=1",
            ),
        ]
    ),
)
def test_numbers_that_are_none_are_refused(
    tmp_path_factory: pytest.TempPathFactory, option: tuple[str, str], text: str
) -> None:
    command, name = option
    # What ends the command should the number be taken.
    end = {"evaluate": ["--corpus", "none.csv"], "tune": ["--corpus", "none.csv"], "memory": []}
    network = ["--network", "none"] if command == "memory" else []
    run(command, f"{name}={text}", *end[command], *network, outcome=(1, 2))
