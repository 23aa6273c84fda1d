"""Texts and transformers on the command line."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

GPT = ("--network", "gpt", "--width", "16", "--depth", "1")
SHORT = ("--epochs", "1", "--batch-size", "64")
"""One step, which is eager."""


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_bytes(b"to be or not to be, " * 40)
    return "text:book.txt"


def test_collect_and_tune_a_text(book: str, tmp_path: Path, invoke: Callable[..., Result]) -> None:
    more = ("--storage", "c.journal", "--export", "c.csv", "--configuration", "1-4-3/1-6-7")
    invoke("collect", book, *GPT, *SHORT, *more)
    (row,) = csv.DictReader((tmp_path / "c.csv").read_text().splitlines())
    assert (row["task"], row["model"], row["optimizer"]) == ("book.txt", "gpt", "adamw")
    assert (row["width"], row["depth"], row["image_size"]) == ("16", "1", "")
    # Of the 20 letters, guesses after one step are of the commonest at best.
    assert 0.5 < float(row["error"]) <= 1
    shown = invoke("tune", "--data", book, *GPT, *SHORT, "--trials", "1", "--no-baseline").output
    assert "Measured, 1 of 99 configurations" in shown
    memory = invoke("memory", *GPT, "--batch-size", "64").output.splitlines()
    totals = {(r["format_a"], r["format_b"]): r["total"] for r in csv.DictReader(memory)}
    assert totals["1-4-3", "1-6-7"] == row["memory"]
    other = invoke("collect", book, *GPT[:2], *SHORT, *more, code=2)
    assert "measures with width 16, not None" in other.output


def test_memory_grows_with_width_and_depth(invoke: Callable[..., Result]) -> None:
    def total(*sizes: str) -> int:
        lines = invoke("memory", "--network", "vit", "--space", "hardware", *sizes).output
        return int(next(csv.DictReader(lines.splitlines()))["total"])

    small = total("--width", "16", "--depth", "1")
    assert small < total("--width", "32", "--depth", "1") < total("--width", "32", "--depth", "3")
    assert total() == total("--width", "64", "--depth", "2")
