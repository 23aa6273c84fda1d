from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result


def test_collect_resumes(invoke: Callable[..., Result], data: str, tmp_path: Path) -> None:
    output = tmp_path / "corpus.csv"
    command = ("collect", data, "--output", output, "--epochs", "1")
    first = invoke(*command, "--configuration", "1-4-3/1-6-7")
    assert "1 measurements, 1 of them made now" in first.output
    both = ("--configuration", "1-4-3/1-6-7", "--configuration", "1-3-1/1-8-11")
    assert "2 measurements, 1 of them made now" in invoke(*command, *both).output
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert [(row["format_a"], row["seed"], row["epochs"]) for row in rows] == [
        ("1-4-3", "0", "1"),
        ("1-3-1", "0", "1"),
    ]


def test_collected_corpus_tunes(invoke: Callable[..., Result], data: str, tmp_path: Path) -> None:
    output = tmp_path / "corpus.csv"
    other = tmp_path / "other.npz"
    other.write_bytes(Path(data.removeprefix("npz:")).read_bytes())
    pairs = [f"1-{e}-{m}/1-{b}-7" for e in (3, 4) for m in (1, 2) for b in (6, 7)]
    options = [word for pair in pairs for word in ("--configuration", pair)]
    for learning_rate in ("0.001", "0.01"):
        options += ["--learning-rate", learning_rate]
    invoke("collect", data, f"npz:{other}", "--output", output, "--epochs", "1", *options)
    result = invoke(
        *("tune", "--data", data, "--corpus", output, "--epochs", "1"),
        *("--trials", "2", "--rank", "1"),
    )
    assert "Measured, 2 of 16 configurations" in result.output
    assert "learning_rate" in result.output


def test_a_sample_is_collected_and_the_same_command_goes_on(
    invoke: Callable[..., Result], data: str, tmp_path: Path
) -> None:
    output = tmp_path / "corpus.csv"
    pairs = [f"1-{e}-{m}/1-{b}-7" for e in (3, 4) for m in (1, 2) for b in (6, 7)]
    options = [word for pair in pairs for word in ("--configuration", pair)]
    command = ("collect", data, "--output", output, "--epochs", "1", *options)
    for _ in range(2):
        result = invoke(*command, "--fraction", "0.1", "--scheme", "memory", "--seed", "5")
    # One task: every configuration is measured once, whatever the draw.
    assert "8 measurements, 0 of them made now" in result.output
