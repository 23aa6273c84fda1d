from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.harness.tables import read
from benchmarks.rules import against_paper
from optuna_peppp import load_corpus
from optuna_peppp.acquisition.strategies import STRATEGIES
from optuna_peppp.evaluation.leave_one_out import Evaluation


def test_quick_runs_write_what_they_print(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    against_paper.main(["--quick", "--output", str(tmp_path)])
    rows = read(tmp_path / "plain3-cifar100.csv")
    assert {int(row["measurements"]) for row in rows} == {1, 3, 6}
    assert {int(row["tasks"]) for row in rows} == {4}
    shown = capsys.readouterr().out
    assert all(f"{float(row['mean']):.4f}" in shown for row in rows)
    differences = {(r["strategy"], r["measure"]) for r in rows if r["less_ed-mf"]}
    assert ("bayesian", "hyperdiff") in differences
    assert {strategy for strategy, _ in differences} == {"bayesian"}
    assert "| less ed-mf |" in shown


def test_a_task_has_an_outcome_for_every_key() -> None:
    evaluation = Evaluation(load_corpus("plain3-cifar100"), STRATEGIES)
    found = against_paper.Outcomes(evaluation, (1, 2))(4)
    assert {task for _, task, _ in found} == {evaluation.name(4)}
    keys = [key for key, _, _ in found]
    assert len(set(keys)) == len(keys)
    assert ("ed-mf", 2, "relative_error") in keys
    assert ("ed-mf", 2, "coverage") not in keys
