"""Networks, data and trainings of one's own, named on the command line."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

PARTS = {
    "images": """
import torch
from torch import nn
from optuna_peppp.lowprecision import ImageData

def data():
    labels = torch.arange(40) % 2
    images = (100 * labels).to(torch.uint8).reshape(40, 1, 1, 1).expand(40, 1, 4, 4)
    return ImageData("bright", images, labels, images, labels, 2)

def network(data):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, data.num_classes))

def three_classes(data):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))

def wrong_shape(data):
    return nn.Linear(9, 2)

def nothing(data): ...
""",
    "tokens": """
import torch
from torch import nn

class Bigrams(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 4), nn.Linear(4, 7)

    def forward(self, tokens, offset):
        return self.head(self.embedding(tokens)) + offset[0]

def data():
    return {"tokens": torch.zeros(3, 5, dtype=torch.long), "offset": [torch.zeros(7)]}

def network(data):
    return Bigrams()

def train(params, recipe, seed):
    with open("told.txt", "a") as file:
        print(sorted(params), params["schedule"], params["momentum"], seed, file=file)
    return 0.25 if params["format_a"] == "1-4-3" else 0.5

def no_error(params, recipe, seed):
    return "good"
""",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder of plug-ins; what is imported from it is forgotten afterwards."""
    for name, source in PARTS.items():
        (tmp_path / f"own_{name}.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".")])
    before = {*sys.modules}
    yield tmp_path
    for name in {*sys.modules} - before:
        if name.startswith("own_"):
            del sys.modules[name]


def test_tune_an_own_training_of_tokens(folder: Path, invoke: Callable[..., Result]) -> None:
    (folder / "space.json").write_text(
        '{"format_a": ["1-3-1", "1-4-3"], "format_b": ["1-6-7"], "momentum": [0.5, 0.8]}'
    )
    own = [f"--{name}=own_tokens:{name}" for name in ("data", "network", "train")]
    more = ("--space", "space.json", "--schedule", "onecycle", "--no-baseline", "--seed", "3")
    stored = ("--storage", "s.journal", "--trials", "4")
    invoke("tune", *own, *more, *stored, "--json", "out.json")
    names = ["batch_size", "device", "epochs", "format_a", "format_b", "learning_rate"]
    names += ["momentum", "optimizer", "schedule", "weight_decay"]
    told = (folder / "told.txt").read_text().splitlines()
    expected = [f"{names} onecycle {momentum} 3" for momentum in (0.5, 0.8)]
    assert sorted(told) == sorted(2 * expected)
    rows = json.loads((folder / "out.json").read_text())["configurations"]
    assert {(row["format_a"], row["error"]) for row in rows} == {("1-3-1", 0.5), ("1-4-3", 0.25)}
    changes = ("--schedule=cosine", "--train=own_tokens:no_error")
    for change in (*changes, "--sites=operators", "--weight-decay=0"):
        name = change[2:].partition("=")[0].replace("-", "_")
        result = invoke("tune", *own, *more, *stored, change, code=2)
        assert f"measures with {name} " in result.output
    assert len((folder / "told.txt").read_text().splitlines()) == 4


def test_a_training_that_returns_no_error(folder: Path, invoke: Callable[..., Result]) -> None:
    own = ("--data=own_tokens:data", "--network=own_tokens:network", "--train=own_tokens:no_error")
    result = invoke("tune", *own, code=2)
    assert "train own_tokens:no_error must return the error, a number between 0" in result.output


def test_collect_with_an_own_network(folder: Path, invoke: Callable[..., Result]) -> None:
    own = ("own_images:data", "--network", "own_images:network")
    chosen = ("--configuration", "1-4-3/1-6-7", "--configuration", "1-5-3/1-6-9", "--epochs", "1")
    more = ("--storage", "c.journal", "--export", "c.csv", "--momentum", "0.5")
    # Batches of all images: one step, which is eager.
    invoke("collect", *own, *chosen, *more, "--schedule", "cosine", "--batch-size", "40")
    rows = list(csv.DictReader((folder / "c.csv").read_text().splitlines()))
    assert [(row["task"], row["model"]) for row in rows] == [("bright", "own_images:network")] * 2
    assert {(row["momentum"], row["schedule"], row["image_size"]) for row in rows} == {
        ("0.5", "cosine", "4")
    }
    result = invoke("collect", *own, *chosen, *more, "--batch-size", "40", code=2)
    assert "measures with schedule cosine, not constant" in result.output


@pytest.mark.slow
def test_collect_an_own_training_in_processes(folder: Path, invoke: Callable[..., Result]) -> None:
    own = ("own_tokens:data", "--network=own_tokens:network", "--train=own_tokens:train")
    chosen = ("--configuration", "1-4-3/1-6-7", "--configuration", "1-5-3/1-6-9", "--jobs", "2")
    invoke("collect", *own, *chosen, "--storage", "c.journal", "--export", "c.csv")
    rows = list(csv.DictReader((folder / "c.csv").read_text().splitlines()))
    assert [(row["task"], row["format_a"], row["error"]) for row in rows] == [
        ("own_tokens:data", "1-4-3", "0.25"),
        ("own_tokens:data", "1-5-3", "0.5"),
    ]


def test_memory_of_own_inputs(folder: Path, invoke: Callable[..., Result]) -> None:
    own = ("--network", "own_tokens:network", "--data", "own_tokens:data")
    lines = invoke("memory", *own).output.splitlines()
    row = next(row for row in csv.DictReader(lines) if row["format_a"] == "1-4-3")
    # 7x4 of the embedding, 4x7 and 7 of the head, in 8 bits; 3x5 embedded tokens of 4 are saved.
    assert (row["weights"], row["activations"]) == ("63", "60")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--network own_images:nowork", "module own_images has no 'nowork'; did you mean"),
        ("--network own_images:data", "must be callable as def data(data); it takes ()"),
        ("--network own_images:nothing --data own_images:data", "return a torch.nn.Module; got No"),
        ("--network own_images:three_classes --data own_images:data", "(2, 2) of two images; got"),
        ("--network own_images:wrong_shape --data own_images:data", "(batch, 1, 4, 4); on two it"),
        ("--data own_images:data --image-size 8", "image_size must be left out with data own_imag"),
        ("--data own_tokens:data --network own_tokens:network", "or, beside a train of your own,"),
        (
            "--data own_tokens:data --train own_tokens:train",
            "network plain3 takes images, not dict",
        ),
        ("--train own_tokens:data", "must be callable as def data(params, recipe, seed)"),
        ("--train digits", "train must be package.module:function"),
        ("--data own_else:data", "there is no module own_else"),
        ("--schedule linear", "schedule must be"),
        ("--sites operator", "sites must be"),
        ("--momentum -1", "momentum must be a number, at least 0 and finite; got -1.0"),
    ],
)
def test_a_fault_shows_before_anything_is_trained(
    folder: Path,
    invoke: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    told: str,
) -> None:
    from optuna_peppp.lowprecision import Experiment

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Experiment, "measure", never)
    output = invoke("tune", *options.split(), code=2).output
    assert told in re.sub(r"[\s│]+", " ", output)


def test_a_choice_that_is_none_shows_at_once(folder: Path, invoke: Callable[..., Result]) -> None:
    (folder / "space.json").write_text(
        '{"format_a": ["1-4-3"], "format_b": ["1-6-7"], "schedule": ["constant", "linear"]}'
    )
    for command in (["tune"], ["collect", "digits", "--storage", "x.journal"]):
        output = invoke(*command, "--space", "space.json", code=2).output
        assert "schedule must be" in output
    assert not (folder / "x.journal").exists()
