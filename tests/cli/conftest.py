"""The command line, as a user types it, and what the commands work on."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from optuna_peppp.cli import app
from optuna_peppp.configurations.space import ConfigurationSpace


@pytest.fixture(scope="session")
def invoke() -> Callable[..., Result]:
    """Runs ``optuna-peppp ARGUMENTS`` and checks its exit code."""

    def run(*arguments: str | Path, code: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data set that trains in a blink: two classes that differ in brightness."""
    path = tmp_path_factory.mktemp("data") / "bright.npz"
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 80)
    images = rng.integers(0, 120, (80, 16, 16, 3)) + 100 * labels[:, None, None, None]
    pixels = images.astype(np.uint8)
    np.savez(
        path,
        train_images=pixels[:60],
        train_labels=labels[:60, None],
        test_images=pixels[60:],
        test_labels=labels[60:, None],
    )
    return f"npz:{path}"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four past tasks: errors fall with the mantissa of Format A, more steeply in some tasks."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.csv"
    space = ConfigurationSpace.paper()
    rng = np.random.default_rng(1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["task", "format_a", "format_b", "error", "memory"])
        for task in range(4):
            for index in range(len(space)):
                precision = space.precision(index)
                error = 0.2 + 0.1 * task / precision.format_a.mantissa + rng.uniform(0, 0.02)
                row = [*space.params(index).values(), f"{error:.6f}"]
                writer.writerow([f"task{task}", *row, 1000 + 10 * index])
    return path


@pytest.fixture(scope="session")
def tune(invoke: Callable[..., Result], data: str, corpus: Path) -> Callable[..., Result]:
    """Runs ``optuna-peppp tune`` on ``data`` with ``corpus``, and further options."""

    def run(*more: str | Path, code: int = 0) -> Result:
        return invoke("tune", "--data", data, "--corpus", corpus, "--epochs", "1", *more, code=code)

    return run
