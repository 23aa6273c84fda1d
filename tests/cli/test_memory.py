from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result


def test_memory_prints_every_configuration(invoke: Callable[..., Result]) -> None:
    lines = invoke("memory", "--network", "resnet18", "--image-size", "32").output.splitlines()
    rows = list(csv.DictReader(lines))
    assert len(rows) == 99
    for row in rows:
        parts = sum(int(row[name]) for name in ("weights", "activations", "optimizer"))
        assert int(row["total"]) == parts


def test_a_choice_that_has_the_name_of_a_part(
    invoke: Callable[..., Result], tmp_path: Path
) -> None:
    path = tmp_path / "space.json"
    path.write_text('{"activations": ["mxfp4"], "optimizer": ["sgd", "adamw"]}')
    sgd, adamw = csv.DictReader(invoke("memory", "--space", str(path)).output.splitlines())
    assert (sgd["activations_choice"], sgd["optimizer_choice"]) == ("mxfp4", "sgd")
    assert 2 * int(sgd["states"]) == int(adamw["states"])
    assert sgd["activations"] == adamw["activations"]
