from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.harness.tables import Row
from benchmarks.harness.tables import read as rows_of
from benchmarks.harness.tasks import complete_rows
from benchmarks.samplers import compare as script
from benchmarks.samplers import contestants, measures, records, report, runs, summary, tournament
from optuna_peppp import ConfigurationSpace, ErrorMatrix

SPACE = ConfigurationSpace(
    {"format_a": ["1-3-1", "1-4-1", "1-4-3"], "format_b": ["1-5-7", "1-6-7", "1-7-7", "1-8-7"]}
)
TASKS = 5
CHEAP = ["random", "brute-force", "tpe-integer", "qr-mf"]


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


def a_run(task: str, sampler: str, indices: list[int], **others: Any) -> Any:
    values = {"seed": 0, "milliseconds": tuple(1.0 for _ in indices), "frontiers": {}, **others}
    return runs.Run(task=task, sampler=sampler, indices=tuple(indices), **values)


# Measures, by hand: scaled memory is 0, 1/4, 1/2, 1, and the third configuration is dominated.

MEMORY = np.array([1.0, 2.0, 3.0, 5.0])
ERRORS = np.array([0.9, 0.5, 0.6, 0.1])
VOLUME = 0.25 * 0.1 + 0.75 * 0.5 + 0.05 * 0.9


@pytest.fixture
def truth() -> Any:
    return measures.Truth(MEMORY, ERRORS)


def test_standing_of_what_was_measured(truth: Any) -> None:
    standing = truth.standing([2, 0, 2])
    regret = VOLUME - (0.5 * 0.1 + 0.55 * 0.4)
    assert standing.hypervolume_regret == pytest.approx(regret)
    assert standing.recommended_regret == pytest.approx(regret)
    # Of ten caps two allow the first only, two the second too, of which nothing was measured.
    assert standing.cap_regret == pytest.approx((2 * 0 + 2 * 0.4 + 5 * 0.1 + 0.5) / 10)
    assert standing.relative_memory == pytest.approx(7 / 11)


def test_standing_of_a_predicted_frontier(truth: Any) -> None:
    standing = truth.standing([3], [0, 2, 3])
    assert standing.hypervolume_regret == pytest.approx(VOLUME - 0.05 * 0.9)
    assert standing.recommended_regret == pytest.approx(
        VOLUME - (0.5 * 0.1 + 0.5 * 0.4 + 0.05 * 0.9)
    )
    assert standing.cap_regret == pytest.approx((2 * 0 + 2 * 0.4 + 5 * 0.1 + 0) / 10)


def test_without_a_configuration_under_the_cap_the_error_is_one(truth: Any) -> None:
    assert truth.standing([3]).cap_regret == pytest.approx((2 * 0.1 + 7 * 0.5 + 0) / 10)


def test_nothing_is_regretted_once_the_frontier_is_measured(truth: Any) -> None:
    standing = truth.standing([3, 0, 1])
    assert standing.hypervolume_regret == standing.recommended_regret == standing.cap_regret == 0


def test_measurements_to_a_share_of_the_hypervolume(truth: Any) -> None:
    dominated = 0.05 * 0.9 + 0.75 * 0.5  # by the second and the last
    share = dominated / VOLUME
    assert truth.reached([3, 3, 1, 0], share - 1e-9) == 3
    assert truth.reached([3, 3, 1, 0], share + 1e-9) == 4
    assert truth.reached([3, 3, 1], share + 1e-9) == math.inf


def test_distinct_configurations_leave_repeats_out(truth: Any) -> None:
    run = a_run("task", "random", [0, 0, 3, 0, 1])
    assert measures.after(truth, run, 2, distinct=False) == truth.standing([0, 0])
    assert measures.after(truth, run, 2, distinct=True) == truth.standing([0, 3])
    assert measures.after(truth, run, 10, distinct=True) == truth.standing([0, 3, 1])


# The summary


def test_summary_by_hand(truth: Any) -> None:
    truths = {"a": truth, "b": truth}
    made = {
        "random": [a_run(task, "random", [0, 2]) for task in truths],
        # Only here do tasks differ; the first seed of b is as good as measuring everything.
        "nsga2": [
            a_run("a", "nsga2", [3]),
            a_run("a", "nsga2", [3], seed=1),
            a_run("b", "nsga2", [0]),
            a_run("b", "nsga2", [3], seed=1),
        ],
        "ed-mf": [a_run(task, "ed-mf", [2], frontiers={1: (0, 1, 3)}) for task in truths],
    }
    rows = {
        (row["sampler"], row["measure"]): row
        for row in summary.summarize(truths, made, [1])
        if row["counted"] == "trials"
    }
    first, third, last = 1.05 * 0.1, 0.55 * 0.4, 0.05 * 0.9
    of_nsga2 = np.array([VOLUME - last, VOLUME - (first + last) / 2])
    row = rows["nsga2", "hypervolume_regret"]
    assert row["mean"] == pytest.approx(of_nsga2.mean())
    assert row["standard_error"] == pytest.approx(abs(of_nsga2[0] - of_nsga2[1]) / 2)
    assert (row["tasks"], row["best_built_in"]) == (2, "random")
    row = rows["ed-mf", "hypervolume_regret"]
    assert row["mean"] == pytest.approx(VOLUME - third)
    assert row["standard_error"] == 0
    assert row["difference"] == pytest.approx(first - third)
    assert row["ratio"] == pytest.approx((VOLUME - third) / (VOLUME - first))
    assert rows["ed-mf", "recommended_regret"]["mean"] == 0
    paired = of_nsga2 - (VOLUME - first)
    assert rows["nsga2", "hypervolume_regret"]["difference_standard_error"] == pytest.approx(
        paired.std(ddof=1) / math.sqrt(2)
    )


def test_effort_by_hand(truth: Any) -> None:
    truths = {"a": truth, "b": truth}
    made = {
        "random": [
            a_run("a", "random", [0, 0, 1, 3], milliseconds=(1.0, 2.0, 3.0, 10.0)),
            a_run("b", "random", [0, 0, 0, 0], milliseconds=(1.0, 2.0, 3.0, 10.0)),
        ]
    }
    for row in summary.efforts(truths, made):
        assert (row["runs"], row["trials"], row["distinct"]) == (2, 4, 2)
        assert (row["reached"], row["median_trials"]) == (0.5, math.inf)
        assert (row["median_milliseconds"], row["mean_milliseconds"]) == (2.5, 4)


def test_tables_by_hand() -> None:

    def row(sampler: str, count: int, mean: float, difference: float) -> Any:
        return {
            "sampler": sampler,
            "counted": "trials",
            "measurements": count,
            "measure": "cap_regret",
            "mean": mean,
            "best_built_in": "random",
            "difference": difference,
            "difference_standard_error": 0.0123,
            "ratio": mean / (mean - difference),
        }

    rows = [
        row("random", 1, 0.2, 0),
        row("ed-mf", 1, 0.1, -0.1),
        row("random", 10, 0.05, 0),
        row("ed-mf", 10, 0.06, 0.01),
    ]
    assert report.means(rows, "cap_regret").splitlines() == [
        "| measurements | 1 | 10 |",
        "| --- | --- | --- |",
        "| random | .200 | **.050** |",
        "| ours, ED-MF | **.100** | .060 |",
    ]
    assert report.margins(rows, "cap_regret").splitlines()[2:] == [
        "| best built-in | random | random |",
        "| ours, ED-MF: difference | -.100 ± .012 | +.010 ± .012 |",
        "| ours, ED-MF: ratio | 0.50 | 1.20 |",
    ]
    effort: Row = {"sampler": "random", "trials": 30, "distinct": 25.25, "reached": 0.25}
    effort |= {"median_trials": math.inf, "median_milliseconds": 0.1, "mean_milliseconds": 1234.5}
    reached = effort | {"reached": 0.75, "median_trials": 12.5}
    assert report.needed([effort, reached]).splitlines()[2] == (
        "| random | > 30 (25%) | 12.5 (75%) | 25.2 of 30 | 0.10 | 1234 |"
    )


# Runs


@pytest.mark.parametrize(
    "name",
    [
        "random",
        "brute-force",
        "nsga2",
        "tpe-categorical",
        "tpe-multivariate-integer",
        "gp-categorical",
        "gp-integer",
        pytest.param("botorch-categorical", marks=pytest.mark.slow),
        pytest.param("botorch-integer", marks=pytest.mark.slow),
        "qr-mf",
        "ed-mf",
        "cold-start",
        "bayesian",
    ],
)
def test_every_sampler_measures_what_the_corpus_holds(name: str, matrix: ErrorMatrix) -> None:
    contestant = contestants.CONTESTANTS[name]
    for package in contestants.missing(contestant):
        pytest.skip(f"needs {package}, which is not installed")
    task = runs.new_task(matrix, 1)
    run = runs.measure(name, contestant, task, 11, seed=3)
    assert (run.task, run.sampler, run.seed) == ("task 1", name, 3)
    assert len(run.indices) == len(run.milliseconds) == 11
    assert set(run.indices) <= set(range(len(SPACE)))
    assert min(run.milliseconds) > 0
    ours = isinstance(contestant, contestants.Ours)
    assert list(run.frontiers) == ([1, 2, 3, 6, 10] if ours else [])
    assert runs.measure(name, contestant, task, 11, seed=3).indices == run.indices


def test_integers_are_positions_in_the_order_of_the_space() -> None:
    for index in range(len(SPACE)):
        positions = {"format_a": index // 4, "format_b": index % 4}
        assert SPACE.index(runs.decode(positions, SPACE, "integer")) == index
        assert SPACE.index(runs.decode(SPACE.params(index), SPACE, "categorical")) == index


def test_seeds_differ_between_tasks(matrix: ErrorMatrix) -> None:
    random = contestants.CONTESTANTS["random"]
    found = {
        runs.measure("random", random, runs.new_task(matrix, row), 12, seed).indices
        for row in range(2)
        for seed in range(2)
    }
    assert len(found) == 4


def test_a_new_task_is_not_among_the_past_ones_under_another_network(matrix: ErrorMatrix) -> None:
    errors, memory = matrix.errors[:4], matrix.memory[:4]
    doubled = ErrorMatrix(SPACE, ("a", "b", "a", "c"), errors, memory, ("x", "x", "y", "y"))
    task = runs.new_task(doubled, 0)
    assert (task.name, task.past.tasks) == ("a (x)", ("b (x)", "c (y)"))


def test_a_partial_row_is_no_new_task(matrix: ErrorMatrix) -> None:
    errors = matrix.errors.copy()
    errors[2, 5] = np.nan
    partial = ErrorMatrix(SPACE, matrix.tasks, errors, matrix.memory)
    assert complete_rows(partial) == [0, 1, 3, 4]
    assert np.isnan(runs.new_task(partial, 0).past.errors).sum() == 1


def test_a_wrong_objective_is_noticed(matrix: ErrorMatrix, monkeypatch: pytest.MonkeyPatch) -> None:
    random = contestants.CONTESTANTS["random"]
    suggest = runs.suggest

    def other(trial: Any, space: ConfigurationSpace, encoding: Any) -> dict[str, Any]:
        asked = suggest(trial, space, encoding)
        return space.params((space.index(asked) + 1) % len(space))

    monkeypatch.setattr(runs, "suggest", other)
    with pytest.raises(RuntimeError, match=r"random on task 0: trial 0 holds .* but .* has"):
        runs.measure("random", random, runs.new_task(matrix, 0), 3, 0)


def test_who_measures_everything_has_no_regret(matrix: ErrorMatrix) -> None:
    tournament.check(matrix, 2)


# Files


def test_runs_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    made = [
        a_run("a, b", "ed-mf", [3, 1, 3], frontiers={1: (0, 2), 3: (1,)}),
        a_run("a, b", "ed-mf", [1, 2, 3], seed=1, milliseconds=(0.25, 1.125, 3.0)),
    ]
    records.write(path, "corpus", made[:1])
    records.append(path, "corpus", made[1])
    assert records.read(path, "corpus", 3) == made
    assert records.read(path, "corpus", 4) == []
    assert records.read(tmp_path / "none.csv", "corpus", 3) == []


def test_a_run_that_was_being_written_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    first, second = a_run("a", "random", [3, 1]), a_run("b", "random", [10, 11])
    records.write(path, "corpus", [first])
    before = path.read_bytes()
    records.append(path, "corpus", second)
    whole = path.read_bytes()
    for length in range(len(before), len(whole)):
        path.write_bytes(whole[:length])
        assert records.read(path, "corpus", 2) == [first]


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    records.write(path, "corpus", [a_run("a", "random", [3])])
    with pytest.raises(ValueError, match="line 2: the run is on corpus corpus, this one is other"):
        records.read(path, "other", 1)
    path.write_text("task,error\na,0.5\n")
    with pytest.raises(ValueError, match="line 2: columns must be corpus,task,sampler"):
        records.read(path, "corpus", 1)


def test_anything_new_in_a_corpus_changes_its_fingerprint(matrix: ErrorMatrix) -> None:
    errors = matrix.errors.copy()
    errors[1, 2] += 1e-9
    others = [
        ErrorMatrix(SPACE, matrix.tasks, errors, matrix.memory),
        ErrorMatrix(SPACE, matrix.tasks, matrix.errors, matrix.memory + 1),
        ErrorMatrix(SPACE, matrix.tasks[::-1], matrix.errors, matrix.memory),
    ]
    assert len({records.fingerprint(other) for other in [matrix, *others]}) == 4
    assert records.fingerprint(ErrorMatrix(SPACE, matrix.tasks, matrix.errors, matrix.memory)) == (
        records.fingerprint(matrix)
    )


# The script


def test_results_are_written(
    compare: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare("--samplers", *CHEAP, "--seeds", "2")
    results = tmp_path / "results"
    record = json.loads((results / "small.json").read_text())
    assert (record["samplers"], record["seeds"], record["trials"]) == (CHEAP, [0, 1], 12)
    assert len(record["tasks"]) == TASKS
    summary = rows_of(results / "small.csv")
    assert len(summary) == len(CHEAP) * 2 * len([1, 2, 3, 6, 10]) * 4
    assert {row["tasks"] for row in summary} == {str(TASKS)}
    effort = rows_of(results / "small_effort.csv")
    assert {row["sampler"]: row["distinct"] for row in effort}["brute-force"] == "12"
    assert (results / "small.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "| ours, QR-MF: ratio |" in printed
    assert "| measurements | 1 | 2 | 3 | 6 | 10 |" in printed


def test_an_interrupted_comparison_goes_on(compare: Callable[..., None], tmp_path: Path) -> None:
    compare("--samplers", "random", "qr-mf")
    path = tmp_path / "results" / "small_trials" / "random.csv"
    whole = rows_of(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])

    compare("--samplers", "random", "qr-mf")
    again = rows_of(path)
    assert [(row["task"], row["index"]) for row in again] == [
        (row["task"], row["index"]) for row in whole
    ]
    # The first two tasks were read, not run again.
    assert [row["milliseconds"] for row in again[:24]] == [
        row["milliseconds"] for row in whole[:24]
    ]
    before = path.stat().st_mtime_ns, path.read_bytes()
    compare("--samplers")
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before


def test_who_lacks_runs_is_left_out_of_the_summary(
    compare: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare("--samplers", "random")
    compare("--samplers", "nsga2", "--every", "2")
    every = json.loads((tmp_path / "results" / "small-every-2.json").read_text())
    assert every["samplers"] == ["random", "nsga2"]
    assert every["tasks"] == ["task 0", "task 2", "task 4"]
    capsys.readouterr()
    compare("--samplers")
    assert "nsga2: left out of the summary, 3 of 5 runs are there" in capsys.readouterr().err
    assert json.loads((tmp_path / "results" / "small.json").read_text())["samplers"] == ["random"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs", "0"], "--jobs must be at least 1; got 0"),
        (["--corpus", "none"], "--corpus: name must be a corpus that ships"),
        (["--samplers"], "no sampler has all runs in"),
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


def test_runs_on_another_corpus_are_not_mixed(
    compare: Callable[..., None],
    matrix: ErrorMatrix,
    corpus: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compare("--samplers", "random")
    ErrorMatrix(SPACE, matrix.tasks, matrix.errors / 2, matrix.memory).write_csv(corpus)
    with pytest.raises(SystemExit):
        compare("--samplers", "random")
    assert "random.csv, line 2: the run is on corpus" in capsys.readouterr().err


def test_quick_runs_on_the_corpus_that_ships(tmp_path: Path) -> None:
    samplers = ["random", "tpe-integer", "qr-mf"]
    script.main(["--quick", "--jobs", "2", "--output", str(tmp_path), "--samplers", *samplers])
    record = json.loads((tmp_path / "plain3-cifar100.json").read_text())
    assert (record["samplers"], len(record["tasks"]), record["trials"]) == (samplers, 2, 11)
    trials = rows_of(tmp_path / "plain3-cifar100_trials" / "random.csv")
    assert len(trials) == 2 * 11
