from __future__ import annotations

import csv
from collections.abc import Callable

from typer.testing import Result


def test_memory_prints_every_configuration(invoke: Callable[..., Result]) -> None:
    lines = invoke("memory", "--network", "resnet18", "--image-size", "32").output.splitlines()
    rows = list(csv.DictReader(lines))
    assert len(rows) == 99
    for row in rows:
        parts = sum(int(row[name]) for name in ("weights", "activations", "optimizer"))
        assert int(row["total"]) == parts
