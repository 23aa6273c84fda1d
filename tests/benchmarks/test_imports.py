from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.harness.tables import read
from benchmarks.speed import imports


def test_modules_are_counted() -> None:
    seconds, processor, modules, torch = imports.once("import json")
    assert seconds > 0
    assert processor > 0
    assert 20 < modules < len(sys.modules)
    assert torch is False


def test_results_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = {"optuna": 0.2, "optuna_peppp": 0.4}

    def once(statement: str) -> tuple[float, float, int, bool]:
        seconds = loaded["optuna_peppp" if "peppp" in statement else "optuna"]
        return seconds, seconds / 2, 100, "lowprecision" in statement

    monkeypatch.setattr(imports, "once", once)
    imports.main(["--quick", "--output", str(tmp_path)])
    rows = read(tmp_path / "imports.csv")
    assert [row["import"] for row in rows] == list(imports.IMPORTS)
    assert [row["milliseconds"] for row in rows] == ["200", "400", "400", "400"]
    assert [row["torch"] for row in rows] == ["False"] * 3 + ["True"]
    printed = imports.table(rows)
    assert printed in capsys.readouterr().out
    assert "| `lowprecision` | 100 | yes | 200 |" in printed
