from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.harness.tables import read
from benchmarks.rules import alternatives, compare, contests
from optuna_peppp import load_corpus
from optuna_peppp.acquisition.improvement import variance_reduction, worth
from optuna_peppp.acquisition.strategies import STRATEGIES, Progress
from optuna_peppp.evaluation.leave_one_out import Evaluation


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return Evaluation(load_corpus("plain3-cifar100"), STRATEGIES)


def test_the_rule_is_what_the_library_does(evaluation: Evaluation) -> None:
    split = evaluation.split(3)
    progress = Progress(
        split.meta, split.memory, split.considered, split.feasible, (5,), (split.errors[5],), 0
    )
    value = worth(
        split.meta.prior,
        split.meta.worlds,
        split.meta.committee,
        split.memory,
        split.feasible,
        progress.choices,
        [5],
        split.errors[[5]],
    )
    assert alternatives.NO_CAP["the rule"].choose(progress) == value.argmax()


def test_weights_of_one_are_the_variance_reduction(evaluation: Evaluation) -> None:
    moments = evaluation.split(0).meta.prior.condition([1], [0.5]).moments()
    ours = alternatives._weighted_reduction(moments, np.ones(99))
    assert ours == pytest.approx(variance_reduction(moments))


@pytest.mark.parametrize("against", ["alternatives", "paper"])
def test_quick_runs_write_what_they_print(
    against: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare.main(["--quick", "--against", against, "--output", str(tmp_path)])
    rows = read(tmp_path / "plain3-cifar100.csv")
    assert {int(row["measurements"]) for row in rows} == {1, 3, 6}
    assert {int(row["tasks"]) for row in rows} == {4}
    shown = capsys.readouterr().out
    assert all(f"{float(row['mean']):.4f}" in shown for row in rows)
    if against == "paper":
        differences = {(r["strategy"], r["measure"]) for r in rows if r["less_ed-mf"]}
        assert ("bayesian", "hyperdiff") in differences
        assert {strategy for strategy, _ in differences} == {"bayesian"}
        assert "| less ed-mf |" in shown
    else:
        assert {row["difference"] for row in rows if row["rule"] == "the rule"} == {"0.0"}
        kinds = {(row["cap"], row["rule"]) for row in rows}
        assert kinds == {("0", rule) for rule in alternatives.NO_CAP} | {
            ("1", rule) for rule in alternatives.CAP
        }


def test_a_contest_has_an_outcome_for_every_key(evaluation: Evaluation) -> None:
    contested = contests.Contested(evaluation, contests.Paper(), (1, 2))
    found = contested(4)
    assert {task for _, task, _ in found} == {evaluation.name(4)}
    keys = [key for key, _, _ in found]
    assert len(set(keys)) == len(keys)
    assert ("ed-mf", 2, "relative_error") in keys
    assert ("ed-mf", 2, "coverage") not in keys
