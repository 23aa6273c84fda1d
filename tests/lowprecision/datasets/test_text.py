from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from optuna_peppp import ConfigurationSpace, memory_vector
from optuna_peppp.lowprecision import Experiment, TextData, load_dataset, load_text, train


def test_a_file(tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_bytes(bytes(range(250)) * 2)
    data = load_text(f"text:{book}", test_fraction=0.2)
    assert data.name == "book.txt"
    assert data.train_bytes.tolist() == [*range(250), *range(150)]
    assert data.test_bytes.tolist() == list(range(150, 250))
    assert (data.input_shape, data.num_classes) == ((64,), 256)


def test_a_folder_gives_the_end_of_every_file(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    for name, letter in (("b/a", b"a"), ("c", b"c"), (".hidden", b"x"), (".git/x", b"x")):
        (tmp_path / name).write_bytes(letter * 200)
    data = load_text(f"text:{tmp_path}", test_fraction=0.25)
    assert bytes(data.train_bytes.tolist()) == b"a" * 150 + b"c" * 150
    assert bytes(data.test_bytes.tolist()) == b"a" * 50 + b"c" * 50
    assert data.name == tmp_path.name


def test_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"x" * 300)
    (tmp_path / "empty").mkdir()
    for name, told in (
        ("digits", "name must be text:FILE-OR-FOLDER or python:TEXT; got 'digits'"),
        (
            f"text:{tmp_path}/short",
            "test_bytes must be at least 65 bytes, .* got 60: give a longer",
        ),
        (f"text:{tmp_path}/empty", "holds no files"),
    ):
        with pytest.raises(ValueError, match=told):
            load_text(name)
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        load_text(f"text:{tmp_path}/none")
    with pytest.raises(ValueError, match="holds 300 B, more than 200 B: give less"):
        load_text(f"text:{tmp_path}/short", max_bytes=200)
    with pytest.raises(ValueError, match="test_fraction must lie between 0 and 1; got 1"):
        load_text("python:topics", test_fraction=1)
    with pytest.raises(ValueError, match="python:topics is a text, for load_text"):
        load_dataset("python:topics")


def test_what_is_no_text_data() -> None:
    text = torch.zeros(9, dtype=torch.uint8)
    assert TextData("some", text, text, 8).input_shape == (8,)
    for given, context, told in (
        (text.long(), 8, "train_bytes must be uint8 of shape (n,); got torch.int64 of shape (9,)"),
        (text.view(3, 3), 8, "got torch.uint8 of shape (3, 3)"),
        (text, 9, "at least 10 bytes, a context of 9 and the next one; got 9"),
        (text, 0, "context must be at least 1; got 0"),
    ):
        with pytest.raises(ValueError, match=re.escape(told)):
            TextData("some", given, text, context)


def test_a_text_is_learned(tmp_path: Path) -> None:
    """Of bytes that count, the next one is plain; the memory is that of its windows."""
    book = tmp_path / "counting.txt"
    book.write_bytes(bytes(range(0, 256, 8)) * 80)
    experiment = Experiment(
        data=f"text:{book}",
        network="gpt",
        width=16,
        depth=1,
        optimizer="adamw",
        batch_size=4,
    )
    assert experiment.task == ("counting.txt", None)
    space = ConfigurationSpace({"activations": ["bfloat16", "mxfp4"], "states": ["float32"]})
    model = experiment.build()
    expected = memory_vector(space, model, (64,), 4, optimizer="adamw")
    assert experiment.memory(space).tolist() == expected.tolist()
    assert expected[0] > expected[1]
    result = train(
        model,
        experiment.load(),
        space.recipe(0),
        epochs=6,
        batch_size=4,
        learning_rate=0.02,
        optimizer="adamw",
        averaged_epochs=1,
        backend="eager",
    )
    assert result.error < 0.2
    assert not result.diverged
