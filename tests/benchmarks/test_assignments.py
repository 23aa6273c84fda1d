from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.assignments import __main__ as command
from benchmarks.assignments import faithful, frontier, graphs
from benchmarks.assignments.anchors import anchors
from benchmarks.harness.script import RESULTS
from optuna_peppp.configurations.layers import Layers
from optuna_peppp.configurations.loss_scale import DynamicLossScale
from optuna_peppp.lowprecision import groups


def test_all_anchors_hold(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["assignments", "--anchors"])
    assert command.run() == 0
    assert capsys.readouterr().out.splitlines()[-1] == "anchors: 58 of 58"


def test_an_anchor_that_fails_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = anchors()
    monkeypatch.setattr(command, "anchors", lambda: [first._replace(expected=0), *others[:2]])
    monkeypatch.setattr(sys, "argv", ["assignments", "--anchors"])
    assert command.run() == 1
    lines = capsys.readouterr().out.splitlines()
    assert " 0 is not 83" in lines[0]
    assert lines[-1] == "anchors: 2 of 3"


def test_ten_assignments_differ() -> None:
    assert len(set(graphs.recipes())) == graphs.ASSIGNMENTS


def test_the_frontier_by_hand() -> None:
    rows = [
        {"task": "t", "configuration": name, "memory": memory, "error": error}
        for name, memory, error in (
            *(("1-3-1", "0", "0.5"), ("1-4-3", "100", "0.3")),
            *(("1-3-1/1-4-3 0.4 decreasing", "50", "0.35"), ("1-3-2", "40", "0.6")),
        )
    ]
    (row,) = frontier.judged(rows)
    # By hand: (1.05 - 0) (1 - 0.5) + (1.05 - 1) (0.5 - 0.3); and 0.55 (0.5 - 0.35) + 0.05 0.05.
    assert (row["uniform"], row["with mixed"]) == ("0.5350", "0.6100")
    assert row["mixed on the frontier"] == "1 of 3"
    assert row["which"] == "1-3-1/1-4-3 0.4 decreasing"


def test_the_settings_of_the_second_paper() -> None:
    rules = dict(faithful.rules())
    assert len(rules) == 15  # as in the paper's figures 4 and 10 to 12, and without promotion
    low = faithful.recipe(rules["0.3 promoted"], 391)  # type: ignore[arg-type]
    layer = groups(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), torch.empty(3, 4))
    told = {x.name: dict(x.formats) for x in Layers.of(low, layer, {}).sites}
    # Of groups of 64, 68 and 12 numbers the second alone; input and logits follow theirs.
    assert told["1"] == {"activations": "1-4-3b4", "activation_gradients": "1-5-2"}
    assert told["(input)"] == told["2"] == dict.fromkeys(told["1"], "1-6-9")
    assert low.loss_scale == DynamicLossScale(2.0**16, interval=391)


def test_configurations_are_told_apart_by_name() -> None:
    names = [frontier.name_of(params) for params in frontier.plan()]
    assert len(set(names)) == len(names) == 15


@pytest.mark.skipif(not (RESULTS / "assignments.csv").exists(), reason="was not measured")
def test_the_tables_are_those_of_the_measurements() -> None:
    def read(path: Path) -> list[dict[str, str]]:
        with path.open() as file:
            return list(csv.DictReader(file))

    found = frontier.judged(read(RESULTS / "assignments.csv"))
    assert found == read(RESULTS / "assignments_frontier.csv")
