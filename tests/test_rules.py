from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from optuna_peppp import load_corpus
from optuna_peppp.acquisition import improvement
from optuna_peppp.acquisition.strategies import PAPER, Progress
from optuna_peppp.evaluation.leave_one_out import Evaluation

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import against_paper
import rules


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return Evaluation(load_corpus("plain3-cifar100"), PAPER)


def test_the_rule_is_what_the_library_does(evaluation: Evaluation) -> None:
    split = evaluation.split(3)
    progress = Progress(
        split.meta, split.memory, split.considered, split.feasible, (5,), (split.errors[5],), 0
    )
    worth = improvement.worth(
        split.meta.prior, split.memory, split.feasible, [5], split.errors[[5]]
    )
    assert worth.argmax() != 5
    assert rules.NO_CAP["the rule"].choose(progress) == worth.argmax()


def test_weights_of_one_are_the_variance_reduction(evaluation: Evaluation) -> None:
    moments = evaluation.split(0).meta.prior.condition([1], [0.5]).moments()
    ours = rules._weighted_reduction(moments, np.ones(99))
    assert ours == pytest.approx(improvement.variance_reduction(moments))


def test_paired_differences_by_hand() -> None:
    values = {("a", "the rule"): 0.1, ("b", "the rule"): 0.3, ("a", "x"): 0.2, ("b", "x"): 0.6}
    outcomes = [
        rules.Outcome(task, False, rule, 3, "regret", value)
        for (task, rule), value in values.items()
    ]
    by_rule = {row["rule"]: row for row in rules.summary(outcomes)}
    assert by_rule["x"]["mean"] == pytest.approx(0.4)
    assert by_rule["x"]["difference"] == pytest.approx(0.2)
    # Differences 0.1 and 0.3: deviation 0.1 root 2, over root 2.
    assert by_rule["x"]["difference_standard_error"] == pytest.approx(0.1)
    assert by_rule["the rule"]["difference"] == 0


def test_against_the_paper_by_hand() -> None:
    values = {("a", "bayesian"): 0.1, ("b", "bayesian"): 0.3, ("a", "ed-mf"): 0.2}
    values |= {("b", "ed-mf"): 0.2, ("a", "qr-mf"): 0.0, ("b", "qr-mf"): 0.0}
    outcomes = [
        against_paper.Outcome(task, strategy, 1, "hyperdiff", value)
        for (task, strategy), value in values.items()
    ]
    found = list(against_paper.summary(outcomes))
    ours = next(row for row in found if row["strategy"] == "bayesian")
    assert ours["less_ed-mf"] == pytest.approx(0.0)
    assert ours["less_qr-mf"] == pytest.approx(0.2)
    assert ours["less_ed-mf_standard_error"] == pytest.approx(0.1)
    assert "| hyperdiff | ed-mf | 0.2000 |" in against_paper.table(found)


def test_measured_everything_nothing_is_uncertain(evaluation: Evaluation) -> None:
    found = against_paper.uncertainty(evaluation.split(2), list(range(98)))
    assert found["area"] < 1e-3
    assert found["right"] == 1
    assert found["claimed"] > 0.95


@pytest.mark.parametrize("script", [rules, against_paper])
def test_quick_runs_write_what_they_print(
    script: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["script", "--quick"])
    script.main()  # type: ignore[attr-defined]
    with (tmp_path / "plain3-cifar100-quick.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {int(row["measurements"]) for row in rows} == set(rules.QUICK)
    assert {int(row["tasks"]) for row in rows} == {4}
    shown = capsys.readouterr().out
    assert all(f"{float(row['mean']):.4f}" in shown for row in rows)
