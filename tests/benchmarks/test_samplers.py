from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from benchmarks.harness.tables import read as rows_of
from benchmarks.samplers import compare as script
from benchmarks.samplers import runs, tasks, transfer
from benchmarks.samplers.contestants import CONTESTANTS
from benchmarks.samplers.rivals import orders
from benchmarks.samplers.rivals.optuna_past import REGISTRY
from optuna_peppp import ConfigurationSpace, ErrorMatrix, PEPPPSampler, pareto
from optuna_peppp.pareto import REFERENCE, scale

SPACE = ConfigurationSpace(
    {"format_a": ["1-3-1", "1-4-1", "1-4-3"], "format_b": ["1-5-7", "1-6-7", "1-7-7", "1-8-7"]}
)
TASKS = 5
CHEAP = ["random", "tpe", "portfolio", "bayesian"]


@pytest.fixture
def matrix() -> ErrorMatrix:
    rng = np.random.default_rng(0)
    errors = rng.uniform(0.2, 0.9, (TASKS, 2)) @ rng.uniform(0.2, 0.6, (2, len(SPACE)))
    memory = np.outer(rng.uniform(1e8, 1e9, TASKS), 1 + np.arange(len(SPACE)))
    return ErrorMatrix(SPACE, tuple(f"task {i}" for i in range(TASKS)), errors, memory)


@pytest.fixture
def corpus(matrix: ErrorMatrix, tmp_path: Path) -> Path:
    path = tmp_path / "small.csv"
    matrix.write_csv(path)
    return path


@pytest.fixture
def compare(corpus: Path, tmp_path: Path) -> Callable[..., None]:
    def run(*arguments: str) -> None:
        folder = ["--corpus", str(corpus), "--output", str(tmp_path / "results")]
        script.main([*folder, *arguments])

    return run


def a_run(indices: list[int], task: str = "task 0", seed: int = 0) -> runs.Run:
    return runs.Run("corpus", "package 1.0", task, seed, 1.5, tuple(indices))


# Orders that past tasks tell


def random_tasks(n: int, d: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(7)
    return rng.random((n, d)), np.array([scale(row) for row in rng.random((n, d))])


def test_the_portfolio_by_hand() -> None:
    memory, errors = np.array([0.0, 0.5, 1.0, 1.0]), np.array([0.8, 0.5, 0.1, 0.2])
    # 0.275, 0.21 and 0.045 + 0.04 of area: the second dominates most alone, then the first adds
    # 0.5 x 0.2, then the third 0.05 x 0.4. The last adds nothing, and comes as if it were alone.
    assert orders.portfolio(errors, memory) == [1, 0, 2, 3]
    np.testing.assert_array_equal(orders.positions(errors[None], memory[None]), [[1, 0, 2, 3]])


def test_the_portfolio_gains_most_each_time() -> None:
    errors, memory = (every[0] for every in random_tasks(1, 9))

    def area(chosen: list[int]) -> float:
        return pareto.hypervolume(np.column_stack((memory, errors))[chosen], REFERENCE)

    order = orders.portfolio(errors, memory)
    assert sorted(order) == list(range(9))
    for count in range(4):
        best = max(area([*order[:count], index]) for index in range(9))
        assert area(order[: count + 1]) == pytest.approx(best)


def test_the_average_rank_of_one_task_is_its_portfolio(matrix: ErrorMatrix) -> None:
    few = tasks.new_task(matrix.rows([0, 3]), 0)
    choose = orders.average_rank(few, 0)
    (own,), (memory,) = few.complete
    assert [choose([0] * count, []) for count in range(12)] == orders.portfolio(own, memory)


@pytest.mark.filterwarnings("ignore")
def test_syne_tune_gains_most_mean_rank_each_time(matrix: ErrorMatrix) -> None:
    for package in CONTESTANTS["syne-tune"].packages:
        pytest.importorskip(package.replace("-", "_"), reason=f"needs {package}")
    task = tasks.new_task(matrix, 0)
    places, found = orders.positions(*task.complete), runs.measure("syne-tune", task, 3, 0).indices
    for count in range(1, 3):
        left = np.delete(np.arange(12), found[:count])
        means = [places[:, [*found[:count], int(j)]].min(axis=1).mean() for j in left]
        own = places[:, list(found[: count + 1])].min(axis=1).mean()
        assert own == pytest.approx(min(means))


# What everybody may know


def test_features_by_hand(matrix: ErrorMatrix) -> None:
    features = tasks.new_task(matrix, 0).features
    assert features.shape == (12, 4)  # Format B's mantissa is the same everywhere.
    np.testing.assert_allclose(features[:, :3].min(axis=0), 0)
    np.testing.assert_allclose(
        features[SPACE.index({"format_a": "1-4-1", "format_b": "1-6-7"})],
        [1, 0, 1 / 3, np.log(6) / np.log(12)],
    )


def test_of_names_those_stay_that_all_tasks_measured(tmp_path: Path) -> None:
    space = ConfigurationSpace({"name": ["b", "a", "c"]})
    errors = np.array([[0.1, 0.2, np.nan], [0.3, 0.4, 0.5]])
    memory = np.array([[2.0, 1.0, 9.0]] * 2)
    ErrorMatrix(space, ("x", "y"), errors, memory).write_csv(tmp_path / "names.csv")
    found = tasks.read(str(tmp_path / "names.csv"))
    assert found.space.choices == {"name": ("a", "b")}
    np.testing.assert_array_equal(found.errors, [[0.2, 0.1], [0.4, 0.3]])
    task = tasks.new_task(found, 0)
    assert task.named
    np.testing.assert_allclose(task.features, [[0, 0], [1, 1]])


def test_a_new_task_is_not_among_the_past_ones_under_another_network(matrix: ErrorMatrix) -> None:
    errors, memory = matrix.errors[:4], matrix.memory[:4]
    doubled = ErrorMatrix(SPACE, ("a", "b", "a", "c"), errors, memory, ("x", "x", "y", "y"))
    task = tasks.new_task(doubled, 0)
    assert (task.name, task.past.tasks) == ("a (x)", ("b (x)", "c (y)"))


def test_only_complete_past_tasks_are_complete(matrix: ErrorMatrix) -> None:
    errors = matrix.errors.copy()
    errors[2, 5] = np.nan
    task = tasks.new_task(ErrorMatrix(SPACE, matrix.tasks, errors, matrix.memory), 0)
    np.testing.assert_array_equal(task.complete[0], errors[[1, 3, 4]])
    assert len(task.past.tasks) == 4


def test_anything_new_in_a_corpus_changes_its_fingerprint(matrix: ErrorMatrix) -> None:
    errors = matrix.errors.copy()
    errors[1, 2] += 1e-9
    others = [
        ErrorMatrix(SPACE, matrix.tasks, errors, matrix.memory),
        ErrorMatrix(SPACE, matrix.tasks, matrix.errors, matrix.memory + 1),
        ErrorMatrix(SPACE, matrix.tasks[::-1], matrix.errors, matrix.memory),
    ]
    assert len({tasks.fingerprint(other) for other in [matrix, *others]}) == 4
    same = ErrorMatrix(SPACE, matrix.tasks, matrix.errors, matrix.memory)
    assert tasks.fingerprint(same) == tasks.fingerprint(matrix)


# Runs


REPEATING = ("random", "nsga2", "tpe", "tpe-multivariate", "gp")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in CONTESTANTS if name != "baybe"])
def test_every_contestant_measures(name: str, matrix: ErrorMatrix) -> None:
    for package in CONTESTANTS[name].missing:
        pytest.skip(f"needs {package}, which is not installed")
    if name == "meta-learn-tpe" and REGISTRY not in os.environ:
        pytest.skip(f"needs a copy of OptunaHub's registry, in the variable {REGISTRY}")
    task = tasks.new_task(matrix, 1)
    run = runs.measure(name, task, 5, seed=3)
    assert (run.task, run.seed, len(run.indices)) == ("task 1", 3, 5)
    assert run.version.split()[0] == CONTESTANTS[name].packages[0]
    assert set(run.indices) <= set(range(len(SPACE)))
    if name not in (*REPEATING, "meta-learn-tpe"):
        assert len(set(run.indices)) == 5
    assert runs.measure(name, task, 5, seed=3).indices == run.indices


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_baybe_measures(matrix: ErrorMatrix) -> None:
    pytest.importorskip("baybe", reason="needs baybe")
    run = runs.measure("baybe", tasks.new_task(matrix, 1), 1, seed=3)
    assert run.version.startswith("baybe ")
    assert set(run.indices) <= set(range(len(SPACE)))


def test_ours_is_the_sampler_in_a_study(matrix: ErrorMatrix) -> None:
    task = tasks.new_task(matrix, 2)
    sampler = PEPPPSampler(task.meta, task.memory)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
    for _ in range(6):
        trial = study.ask()
        index = SPACE.index(SPACE.suggest(trial))
        study.tell(trial, (task.errors[index], task.memory[index]))
    asked = tuple(SPACE.index(trial.params) for trial in study.trials)
    assert runs.measure("bayesian", task, 6, 0).indices == asked


def test_seeds_differ_between_tasks(matrix: ErrorMatrix) -> None:
    found = {
        runs.measure("random", tasks.new_task(matrix, row), 12, seed).indices
        for row in range(2)
        for seed in range(2)
    }
    assert len(found) == 4


def test_regret_by_hand() -> None:
    # Scaled memory is 0, 1/4, 1/2, 1, and the third configuration is dominated.
    memory, errors = np.array([1.0, 2.0, 3.0, 5.0]), np.array([0.9, 0.5, 0.6, 0.1])
    whole = 0.25 * 0.1 + 0.75 * 0.5 + 0.05 * 0.9
    found = runs.regrets(a_run([2, 0, 2, 1, 3, 3]), errors, memory)
    expected = [whole - 0.55 * 0.4, *[whole - (0.5 * 0.1 + 0.55 * 0.4)] * 2, 0]
    assert found == pytest.approx(expected)


def test_runs_come_back_as_they_were(tmp_path: Path) -> None:
    path, made = tmp_path / "new" / "runs.csv", [a_run([3, 1, 3], "a, b"), a_run([1], seed=1)]
    for run in made:
        runs.append(path, run)
    assert runs.read(path) == made
    assert runs.read(tmp_path / "none.csv") == []
    path.write_text("task,error\na,0.5\n")
    with pytest.raises(ValueError, match=r"runs.csv must hold runs; got .*: remove it"):
        runs.read(path)


# The script


def test_results_are_written(
    compare: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare("--samplers", *CHEAP, "--seeds", "2")
    results = tmp_path / "results"
    summary = rows_of(results / "regret.csv")
    assert {row["sampler"] for row in summary} == set(CHEAP)
    assert len(summary) == len(CHEAP) * len([1, 2, 3, 6, 10])
    assert {row["tasks"] for row in summary} == {str(TASKS)}
    assert {row["more"] for row in summary if row["sampler"] == "bayesian"} == {"0"}
    assert len(runs.read(results / "small" / "random.csv")) == 2 * TASKS
    assert (results / "regret.png").stat().st_size > 10_000
    assert "| measurements | tasks | 1 | 2 | 3 | 6 | 10 | ms a trial |" in capsys.readouterr().out


def test_an_interrupted_comparison_goes_on(compare: Callable[..., None], tmp_path: Path) -> None:
    compare("--samplers", "random")
    path = tmp_path / "results" / "small" / "random.csv"
    whole = runs.read(path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    compare("--samplers", "random")
    again = runs.read(path)
    assert again[:2] == whole[:2]
    assert [run.indices for run in again] == [run.indices for run in whole]
    before = path.read_bytes()
    compare("--samplers", "random")
    compare("--samplers")
    assert path.read_bytes() == before


def test_who_ran_on_some_tasks_is_compared_with_the_default_on_these(
    compare: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare("--samplers", "bayesian")
    compare("--samplers", "random", "--every", "2", "--trials", "3")
    rows = {
        (row["sampler"], row["measurements"]): row
        for row in rows_of(tmp_path / "results" / "regret.csv")
    }
    assert {key[1] for key in rows if key[0] == "random"} == {"1", "2", "3"}
    matrix = tasks.read(str(tmp_path / "small.csv"))
    ours = [
        runs.regrets(run, matrix.errors[row], matrix.memory[row])[2]
        for row, run in enumerate(runs.read(tmp_path / "results" / "small" / "bayesian.csv"))
    ]
    row = rows["random", "3"]
    assert row["tasks"] == "3"
    assert float(row["default"]) == pytest.approx(np.mean(ours[::2]), rel=1e-5)
    assert float(row["regret"]) - float(row["default"]) == pytest.approx(
        float(row["more"]), abs=1e-5
    )
    assert "| ours, default, on these | 3 |" in capsys.readouterr().out


def test_who_cannot_run_is_named(
    compare: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = CONTESTANTS["tpe"].__class__("absent", lambda *_: lambda *_: 0, ("not-installed",))
    monkeypatch.setitem(CONTESTANTS, "tpe", missing)
    compare("--samplers", "tpe", "portfolio")
    assert "tpe: skipped, needs not-installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs", "0"], "--jobs must be at least 1; got 0"),
        (["--corpus", "none"], "--corpus: name must be a corpus that ships"),
        (["--samplers"], "there are no runs to summarize"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: list[str],
    message: str,
    compare: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        compare(*arguments)
    assert message in capsys.readouterr().err


def test_runs_on_another_corpus_do_not_count(
    compare: Callable[..., None], matrix: ErrorMatrix, corpus: Path, tmp_path: Path
) -> None:
    compare("--samplers", "portfolio")
    ErrorMatrix(SPACE, matrix.tasks, matrix.errors / 2, matrix.memory).write_csv(corpus)
    compare("--samplers", "portfolio")
    found = runs.read(tmp_path / "results" / "small" / "portfolio.csv")
    assert [a.task == b.task for a, b in pairwise(found)].count(True) == 0
    assert len(found) == 2 * TASKS
    (row,) = (r for r in rows_of(tmp_path / "results" / "regret.csv") if r["measurements"] == "6")
    assert row["tasks"] == str(TASKS)


# BoTorch


@pytest.mark.filterwarnings("ignore")
def test_an_ensemble_of_one_is_its_model() -> None:
    torch, known = pytest.importorskip("torch"), pytest.importorskip("botorch")
    from botorch.models import SingleTaskGP

    from benchmarks.samplers.rivals.botorch_known import Ensemble

    assert known
    x = torch.rand(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = SingleTaskGP(x, x.sum(dim=1, keepdim=True), outcome_transform=None)
    points = torch.rand(3, 2, 2, dtype=torch.float64)
    one = model.posterior(points)
    mixed = Ensemble([model, model], torch.tensor([1.0, 0.0]), 0.5, 2.0).posterior(points)
    torch.testing.assert_close(mixed.mean, 0.5 + 2 * one.mean)
    torch.testing.assert_close(mixed.variance, 4 * one.variance)


@pytest.mark.filterwarnings("ignore")
def test_left_out_is_as_if_it_had_not_been_measured() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("botorch")
    from botorch.models import SingleTaskGP

    from benchmarks.samplers.rivals.botorch_known import left_out

    x = torch.rand(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = x.sin().sum(dim=1)
    model = SingleTaskGP(x, y[:, None], outcome_transform=None)
    with torch.no_grad():
        prior = model.likelihood(model.train()(x))
        mean, covariance = prior.mean.numpy(), prior.covariance_matrix.numpy()
        found = [part.numpy() for part in left_out(model, y)]
    for j, rest in enumerate(np.delete(np.arange(5), j) for j in range(5)):
        weights = np.linalg.solve(covariance[np.ix_(rest, rest)], covariance[rest, j])
        expected = mean[j] + weights @ (y.numpy() - mean)[rest]
        assert found[0][j] == pytest.approx(expected)
        assert found[1][j] == pytest.approx(covariance[j, j] - weights @ covariance[rest, j])


# From one kind of network to another


def test_transfer_tells_what_each_source_is_worth(matrix: ErrorMatrix, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for name, rows in (("one", [0, 1, 2]), ("other", [2, 3, 4])):
        part = matrix.rows(rows)
        hidden = np.zeros(part.errors.shape, dtype=np.bool_)
        hidden[0, rng.choice(len(SPACE), 2, replace=False)] = True
        errors, memory = (np.where(hidden, np.nan, of) for of in (part.errors, part.memory))
        ErrorMatrix(SPACE, part.tasks, errors, memory).write_csv(tmp_path / f"{name}.csv")
    files = [str(tmp_path / f"{name}.csv") for name in ("one", "other")]
    transfer.main([*files, "--quick", "--output", str(tmp_path)])
    found = rows_of(tmp_path / "transfer.csv")
    sources = {(row["corpus"], row["learned_from"]) for row in found}
    kinds = ("same kind", "all kinds", "nothing")
    assert sources == {(c, k) for c in ("one", "other") for k in kinds} | {
        ("one", "other"),
        ("other", "one"),
    }
    assert {row["tasks"] for row in found} == {"3"}
    for row in found:
        assert 0 <= float(row["hypervolume_regret"]) < 1
    # Past tasks of the same low rank tell more than nothing.
    late = [row for row in found if row["measurements"] == "3"]
    told = {row["learned_from"]: float(row["relative_error"]) for row in late}
    assert told["all kinds"] < told["nothing"]


def test_recommendations_miss_the_best_under_each_cap() -> None:
    points = np.array([[0.0, 0.9], [0.4, 0.5], [0.6, 0.3], [1.0, 0.1]])
    predicted = np.array([0.9, 0.5, 0.6, 0.1])
    # Under a quarter and half of the range the best, under three quarters the second best.
    assert transfer._recommendation_regret(points, predicted) == pytest.approx(0.2 / 3)
