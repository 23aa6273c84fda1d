from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from benchmarks.corpora import epochs, measure, recipes
from benchmarks.harness.tables import read
from optuna_peppp import ConfigurationSpace, ErrorMatrix
from optuna_peppp.configurations.data import CIFAR100_SUPERCLASSES
from optuna_peppp.lowprecision import Experiment, TrainingResult

SHIPPED = ("resnet18", "resnet34", "vgg11", "vgg13", "vgg16", "vgg19")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny data set under the name of every superclass."""
    folder = tmp_path_factory.mktemp("superclasses")
    rng = np.random.default_rng(0)
    labels = np.arange(20) % 5
    images = rng.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
    for name in recipes.SUPERCLASSES:
        np.savez(
            folder / f"{name}.npz",
            train_images=images,
            train_labels=labels,
            test_images=images,
            test_labels=labels,
        )
    return folder


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Experiment]:
    """What was trained, in place of training it; errors follow the configuration."""
    experiments: list[Experiment] = []

    def stand_in(
        experiment: Experiment,
        params: Mapping[str, object],
        on_epoch: Callable[[int], None] | None = None,
    ) -> TrainingResult:
        experiments.append(experiment)
        bits = sum(map(int, str(params["format_a"]).split("-")))
        error = 0.9 - 0.05 * bits - 0.01 * experiment.epochs
        return TrainingResult(error, (error,), False, experiment.epochs)

    monkeypatch.setattr(Experiment, "measure", stand_in)
    return experiments


def test_superclasses_are_cifars() -> None:
    assert set(recipes.SUPERCLASSES) == set(CIFAR100_SUPERCLASSES)
    assert len(recipes.SUPERCLASSES) == 20


def test_recipes_are_the_papers(data: Path) -> None:
    sizes = {}
    for recipe in recipes.RECIPES[:3]:
        plan = recipe.measurements(data, "cpu")
        sizes[recipe.name] = len(plan)
        settings = {(m.experiment.momentum, m.experiment.weight_decay) for m in plan}
        assert settings == {(0.9, 5e-4)}  # Section 4
        assert {m.image_size for m in plan} == {32}
    assert sizes == {
        "resnet18-cifar100": 20 * 99,
        "resnet18-cifar100-nearest": 5 * 99,
        "resnet18-cifar100-rates": 16 * 297,
    }
    assert {name for recipe in recipes.RECIPES for name in recipe.networks} == set(SHIPPED)
    names = [recipe.name for recipe in (*recipes.RECIPES, *recipes.QUICK)]
    assert len(set(names)) == len(names)
    assert {name for pair in recipes.EPOCHS.items() for name in pair} <= set(names)


def test_all_is_measured_exported_and_described(
    data: Path, trained: list[Experiment], tmp_path: Path
) -> None:
    command = ["--data", str(data), "--output", str(tmp_path), "--device", "cpu"]
    assert measure.main([*command, "--quick"]) == 0
    plans = [recipe.measurements(data, "cpu") for recipe in recipes.QUICK]
    assert len(trained) == sum(map(len, plans))
    for recipe, plan in zip(recipes.QUICK, plans, strict=True):
        matrix = ErrorMatrix.read_csv(tmp_path / f"{recipe.name}.csv")
        assert matrix.observed.sum() == len(plan)
        assert set(matrix.models) == set(recipe.networks)
    (tau,) = tmp_path.glob("*_tau.csv")
    rows = read(tau)
    assert {row["task"] for row in rows} == {"plain3 flowers", "plain3 people"}
    assert {float(row["kendall_tau"]) for row in rows} == {1.0}
    assert tau.with_suffix(".png").exists()
    # Again, there is nothing left to do.
    trained.clear()
    assert measure.main([*command, "--quick"]) == 0
    assert trained == []


def test_data_sets_in_groups_make_the_same_corpus(
    data: Path, trained: list[Experiment], tmp_path: Path
) -> None:
    name = "resnet18-cifar100-nearest"
    command = ["--data", str(data), "--output", str(tmp_path), "--device", "cpu", "--only", name]
    assert measure.main([*command, "--tasks", "3"]) == 0
    assert len(trained) == 3 * 99
    assert (tmp_path / name / f"{name}.md").exists()  # a page of facts
    assert measure.main(command) == 0
    assert len(trained) == 5 * 99
    assert len(ErrorMatrix.read_csv(tmp_path / f"{name}.csv").tasks) == 5


def test_an_interrupted_run_exports_what_there_is(
    data: Path, trained: list[Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = Experiment.measure

    def interrupted(*arguments: object) -> TrainingResult:
        if len(trained) == 7:
            raise KeyboardInterrupt
        return stand_in(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Experiment, "measure", interrupted)
    name = recipes.QUICK[0].name
    command = ["--data", str(data), "--output", str(tmp_path), "--quick", "--only", name]
    assert measure.main([*command, "--device", "cpu"]) == 130
    assert ErrorMatrix.read_csv(tmp_path / f"{name}.csv").observed.sum() == 7


def matrix(errors: list[list[float]], tasks: tuple[str, ...] = ("a", "b")) -> ErrorMatrix:
    space = ConfigurationSpace({"format_a": ["1-4-1", "1-4-2", "1-4-3"], "format_b": ["1-6-7"]})
    full = np.ones((len(tasks), 3))
    return ErrorMatrix(space, tasks, np.array(errors), full, models=("plain3",) * len(tasks))


def test_only_what_both_measured_is_compared() -> None:
    short = matrix([[0.5, 0.4, 0.3], [0.5, np.nan, np.nan]])
    long = matrix([[0.4, np.nan, 0.2], [0.4, 0.3, 0.2]])
    pairs = epochs.paired(short, long)
    assert list(pairs) == ["plain3 a"]
    assert [errors.tolist() for errors in pairs["plain3 a"]] == [[0.5, 0.3], [0.4, 0.2]]
    with pytest.raises(ValueError, match="must hold a task with two configurations"):
        epochs.paired(short, matrix([[0.4, 0.3, 0.2]] * 2, ("c", "d")))
