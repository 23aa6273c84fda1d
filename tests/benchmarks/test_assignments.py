from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from benchmarks.assignments import __main__ as command
from benchmarks.assignments import frontier, graphs
from benchmarks.assignments.anchors import anchors
from benchmarks.harness.script import RESULTS


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
