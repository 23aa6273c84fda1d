from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.corpora import sampled
from benchmarks.harness.tables import read
from optuna_peppp import ConfigurationSpace, ErrorMatrix

SPACE = ConfigurationSpace({"activations": ["bfloat16", "mxfp4", "int2@32"], "states": ["a", "b"]})
COSTS = {"mxfp4": 0.02, "int2@32": 0.1, "b": 0.05}


def additive(tasks: int = 8, share: float = 0.6, noise: float = 0.0) -> ErrorMatrix:
    """Errors that are sums of what the task and the choices add, measured in part."""
    rng = np.random.default_rng(0)
    costs = [sum(COSTS.get(str(v), 0.0) for v in SPACE.params(j).values()) for j in range(6)]
    errors = np.linspace(0.2, 0.5, tasks)[:, None] + costs
    errors += noise * rng.standard_normal(errors.shape)
    errors[rng.random(errors.shape) >= share] = np.nan
    names = tuple(f"task{row}" for row in range(tasks))
    return ErrorMatrix(SPACE, names, errors, np.ones(errors.shape) * np.arange(1, 7))


def test_what_choices_cost_in_a_sum() -> None:
    matrix = additive()
    rows = {str(row["choice"]): row for row in sampled.choices(matrix)}
    assert list(rows) == ["bfloat16", "mxfp4", "int2@32", "a", "b"]
    for name, row in rows.items():
        assert row["cost"] == pytest.approx(COSTS.get(name, 0.0), abs=1e-12)
        assert row["left_over"] == pytest.approx(0, abs=1e-12)
        without = "" if name == "int2@32" else pytest.approx(COSTS.get(name, 0.0), abs=1e-12)
        assert row["cost_without_worst"] == without
    assert sum(int(rows[name]["measurements"]) for name in "ab") == matrix.observed.sum()


def test_standard_errors_are_those_of_two_means() -> None:
    """One name of two choices, two tasks, everything measured: a paired difference."""
    space = ConfigurationSpace({"states": ["a", "b"]})
    errors = np.array([[0.1, 0.3], [0.2, 0.3], [0.4, 0.7]])
    matrix = ErrorMatrix(space, ("x", "y", "z"), errors, np.ones((3, 2)))
    _, row = sampled._costs(matrix, matrix.observed)
    differences = errors[:, 1] - errors[:, 0]
    assert row["cost"] == pytest.approx(differences.mean())
    assert row["standard_error"] == pytest.approx(differences.std(ddof=1) / np.sqrt(3))


@pytest.mark.parametrize("folds", [2, 5])
def test_what_is_held_out(folds: int) -> None:
    observed = additive(share=0.4).observed
    turns = list(sampled.split(observed, folds))
    assert len(turns) == folds
    assert np.sum(turns, axis=0).max() == 1
    for held in turns:
        assert not (held & ~observed).any()
        known = observed & ~held
        assert np.array_equal(known.any(axis=0), observed.any(axis=0))
        assert np.array_equal(known.any(axis=1), observed.any(axis=1))


def test_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "some.csv"
    additive(noise=0.01).write_csv(path)
    sampled.main([str(path), "--quick", "--output", str(tmp_path / "out")])
    held = read(tmp_path / "out" / "some_held_out.csv")
    assert len(held) == sampled.QUICK_FOLDS
    for row in held:
        assert float(row["main_effects"]) < float(row["mean"])
        assert 0 < float(row["posterior"]) < 0.2
    page = (tmp_path / "out" / "some.md").read_text()
    assert "| activations | `bfloat16` | +0.0000 ± 0.0000 | +0.0000 ± 0.0000 |" in page
    assert "done" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        sampled.main([str(path), "--folds", "1", "--output", str(tmp_path / "out")])
