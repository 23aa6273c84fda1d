from __future__ import annotations

from collections.abc import Iterator

import pytest
from optuna.trial import TrialState

from optuna_peppp import ConfigurationSpace, Recipe, memory_vector
from optuna_peppp.examples import joint_tuning, own_loop, pruning

BRIEF = ["--trials", "2", "--epochs", "1"]


def test_a_loop_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    study, space = own_loop.main(BRIEF), ConfigurationSpace.paper()
    asked = [space.index(trial.params) for trial in study.trials]
    assert len(set(asked)) == 2
    memory = memory_vector(space, own_loop.network(), (64,), batch_size=own_loop.BATCH_SIZE)
    assert [trial.values[1] for trial in study.trials] == [memory[index] for index in asked]
    assert capsys.readouterr().out.startswith("Recommendation(")


def test_the_loop_learns() -> None:
    errors = list(own_loop.errors_of(Recipe.paper("1-5-3", "1-8-11"), epochs=3))
    assert len(errors) == 3
    assert errors[-1] < min(errors[0], 0.3)  # of ten digits nine are guessed wrong


def test_formats_and_the_learning_rate_together() -> None:
    trials = joint_tuning.main(BRIEF).trials
    assert [set(trial.params) for trial in trials] == [
        {"format_a", "format_b", "learning_rate"}
    ] * 2
    assert trials[0].params != trials[1].params
    assert all(trial.state == TrialState.COMPLETE for trial in trials)


def test_what_looks_bad_is_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []

    def curve(recipe: Recipe, epochs: int) -> Iterator[float]:
        trained.append(recipe)
        level = 0.1 if len(trained) <= 3 else 0.5
        for _ in range(epochs):
            yield level

    monkeypatch.setattr(pruning, "errors_of", curve)
    study = pruning.main(["--trials", "5", "--epochs", "4"])
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3 + ["PRUNED"] * 2
    assert [len(trial.intermediate_values) for trial in study.trials] == [4, 4, 4, 1, 1]
    assert len({str(recipe) for recipe in trained}) == 5
