"""What the method-driven figures compute: authors.py and what builds on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.harness.tables import read
from benchmarks.paper import anchors, authors, comparison, figures, sampling, settings
from optuna_peppp import ConfigurationSpace, ErrorMatrix
from optuna_peppp.acquisition.strategies import STRATEGIES
from optuna_peppp.evaluation.leave_one_out import Evaluation


def corpus_of(n: int, d: int, rank: int, seed: int = 0) -> ErrorMatrix:
    rng = np.random.default_rng(seed)
    errors = rng.uniform(0.2, 1, (n, rank)) @ rng.uniform(0.2, 1, (rank, d)) / rank
    space = ConfigurationSpace({"configuration": range(d)})
    memory = rng.permuted(np.tile(np.arange(1.0, d + 1), (n, 1)), axis=1)
    return ErrorMatrix(space, tuple(f"task {i}" for i in range(n)), errors, memory)


# Sampling and completion


def test_chances_by_memory_fall_linearly_with_the_rank_of_memory() -> None:
    chances = authors.memory_chances(np.array([[1.0, 2.0], [4.0, 3.0]]), 0.6)
    np.testing.assert_allclose(chances, [[0.6, 0.4], [0.0, 0.2]])


def test_entries_are_drawn_independently_with_their_chances() -> None:
    chances = np.array([[0.0, 0.2, 0.7, 1.0]])
    drawn = np.array([authors.draw(chances, seed)[0] for seed in range(2000)])
    np.testing.assert_allclose(drawn.mean(axis=0), chances[0], atol=0.04)
    np.testing.assert_allclose(np.corrcoef(drawn[:, 1], drawn[:, 2])[0, 1], 0, atol=0.08)


def test_a_draw_is_never_empty() -> None:
    assert all(authors.draw(np.full((2, 2), 0.01), seed).any() for seed in range(20))


def slow_completion(
    errors: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Minimizes 1/2 sum w (Z - E)^2 + 0.1 ||Z||_* by plain proximal gradient."""
    step, point = 1 / weights.max(), np.zeros_like(errors)
    for _ in range(20_000):
        left, values, right = np.linalg.svd(
            point - step * weights * (point - errors), full_matrices=False
        )
        point = left * np.maximum(values - 0.1 * step, 0) @ right
    return point


@pytest.mark.parametrize("weighted", [False, True])
def test_completion_solves_the_problem_with_a_shrinkage_of_a_tenth(weighted: bool) -> None:
    errors = corpus_of(5, 7, 2).errors
    chances = np.random.default_rng(1).uniform(0.3, 1, errors.shape)
    drawn = authors.draw(chances, 0)
    weights = np.where(drawn, 1 / chances if weighted else 1.0, 0.0)
    completed = authors.complete(errors, drawn, chances if weighted else None)
    np.testing.assert_allclose(completed, slow_completion(errors, weights).clip(0, 1), atol=1e-4)


# Quality


def test_memory_is_divided_by_the_largest_and_errors_by_what_exceeds_one() -> None:
    memory, errors = np.array([2.0, 4.0]), np.array([0.8, 0.4])
    # Predicted 0.5 and 0.2 instead of 0.8 and 0.4, at memory 0.2 and 0.4.
    off, convergence, hyperdiff = authors.qualities(memory, errors, np.array([0.5, 0.2]), 10.0)
    # The point (0.2, 0.5) is 0.2236 from (0.4, 0.4) and 0.3 from (0.2, 0.8).
    assert convergence == pytest.approx((np.hypot(0.2, 0.1) + 0.2) / 2)
    assert hyperdiff == pytest.approx(0.2 * 0.3 + 0.6 * 0.2)
    assert off == pytest.approx(np.hypot(0.3, 0.2) / np.hypot(0.8, 0.4))
    # A prediction of 2 halves all errors, and the reference point is (1, 2).
    _, convergence, hyperdiff = authors.qualities(memory, errors, np.array([2.0, 0.4]), 10.0)
    assert convergence == pytest.approx((min(np.hypot(0, 0.6), np.hypot(0.2, 0.8)) + 0) / 2)
    assert hyperdiff == pytest.approx(0.2 * 0.6)


# Meta-test


def test_what_is_left_out_or_not_feasible_has_no_influence() -> None:
    corpus = corpus_of(6, 9, 3)
    task = authors.split(corpus, 2, memory_cap=5.0)
    np.testing.assert_array_equal(task.considered, corpus.memory[2] <= 5)
    assert not task.meta.embeddings[~task.considered].any()
    changed = corpus.errors.copy()
    changed[2] = 0.123
    changed[:, ~task.considered] = 0.456
    other = ErrorMatrix(corpus.space, corpus.tasks, changed, corpus.memory)
    np.testing.assert_array_equal(
        authors.split(other, 2, memory_cap=5.0).meta.embeddings, task.meta.embeddings
    )


def test_what_was_not_drawn_has_no_influence() -> None:
    corpus = corpus_of(6, 9, 3)
    drawn = authors.draw(np.full(corpus.errors.shape, 0.5), 0)
    changed = ErrorMatrix(
        corpus.space, corpus.tasks, np.where(drawn, corpus.errors, 0.5), corpus.memory
    )
    tasks = [authors.split(each, 2, memory_cap=None, drawn=drawn) for each in (corpus, changed)]
    np.testing.assert_array_equal(tasks[0].meta.errors, tasks[1].meta.errors)
    np.testing.assert_array_equal(tasks[0].meta.embeddings, tasks[1].meta.embeddings)


def test_embeddings_are_right_singular_vectors_without_those_that_vanish() -> None:
    corpus = corpus_of(8, 9, 3)
    task = authors.split(corpus, 0, memory_cap=None)
    embeddings = task.meta.embeddings
    assert embeddings.shape == (9, 3)
    np.testing.assert_allclose(embeddings.T @ embeddings, np.eye(3), atol=1e-12)
    others = corpus.errors[1:]
    np.testing.assert_allclose(others @ embeddings @ embeddings.T, others, atol=1e-12)


def test_a_task_in_the_span_is_predicted_exactly_and_measured_errors_are_predicted_too() -> None:
    corpus = corpus_of(8, 9, 3)
    task = authors.split(corpus, 0, memory_cap=None)
    np.testing.assert_allclose(authors.predict(task, [1, 4, 6]), corpus.errors[0], atol=1e-9)
    noisy = corpus_of(8, 9, 9)
    task = authors.split(noisy, 0, memory_cap=None)
    measured = [0, 1, 2, 3, 4, 5, 6]
    expected = task.meta.embeddings @ np.linalg.pinv(task.meta.embeddings[measured])
    predicted = authors.predict(task, measured)
    np.testing.assert_allclose(predicted, expected @ noisy.errors[0, measured], atol=1e-9)
    assert np.abs(predicted - noisy.errors[0])[measured].max() > 1e-3


def test_the_predicted_frontier_is_of_feasible_configurations() -> None:
    task = authors.split(corpus_of(8, 9, 4), 3, memory_cap=6.0)
    indices = authors.measure(task, authors.TECHNIQUES["ed-mf"], 5, seed=0)
    frontier, predicted = authors.frontier(task, indices), authors.predict(task, indices)
    feasible = np.flatnonzero(task.considered)
    # No feasible configuration betters one of the frontier, and one betters each of the others.
    for j in feasible:
        better = (task.memory[feasible] <= task.memory[j]) & (predicted[feasible] <= predicted[j])
        assert (better.sum() == 1) == (j in frontier)
    assert (np.diff(task.memory[frontier]) > 0).all()


@pytest.mark.parametrize("count", [4, 20])
def test_techniques_measure_feasible_configurations_once(count: int) -> None:
    task = authors.split(corpus_of(8, 9, 4), 3, memory_cap=6.0)
    assert set(authors.TECHNIQUES) == {
        *("ed-mf", "qr-mf", "random-mf"),
        *("bo-mf", "bo-full", "bo-mf-ascending", "bo-full-ascending"),
    }
    for technique in authors.TECHNIQUES.values():
        measured = authors.measure(task, technique, count, seed=0)
        assert len(set(measured)) == len(measured) == min(count, 6)
        assert task.considered[measured].all()


def test_qr_mf_pivots_on_the_embeddings() -> None:
    task = authors.split(corpus_of(8, 9, 4), 3, memory_cap=None)
    first = authors.measure(task, authors.TECHNIQUES["qr-mf"], 1, seed=0)
    assert first == [np.linalg.norm(task.meta.embeddings, axis=1).argmax()]


# Settings


def test_plain_outcomes_are_the_librarys() -> None:
    corpus = corpus_of(7, 9, 3)
    found = [
        outcome
        for outcome in settings.plain_outcomes(corpus, "IV", range(7), "plain, rank 3", seed=5)
        if outcome.technique == "qr-mf"
    ]
    evaluation = Evaluation(
        corpus,
        {"qr-mf": STRATEGIES["qr-mf"]},
        range(3, 16),
        memory_cap=float(np.median(corpus.memory)),
        fraction=0.2,
        rank=3,
        seed=5,
    )
    assert [(o.task, o.measurements, o.convergence, o.hyperdiff) for o in found] == [
        (s.task, s.measurements, s.quality.convergence, s.quality.hyperdiff)
        for s in evaluation.run()
    ]


@pytest.mark.parametrize("name", ["I", "II", "III", "IV", "V", "VI"])
def test_settings_are_those_of_table_1(name: str) -> None:
    corpus = corpus_of(7, 9, 3)
    task = settings.authors_split(corpus, 4, settings.SETTINGS[name], seed=0)
    capped = name in ("II", "IV", "VI")
    np.testing.assert_array_equal(task.considered, (corpus.memory[4] <= 5) | (not capped))
    complete = np.array_equal(task.meta.errors, np.delete(corpus.errors, 4, axis=0))
    assert complete == (name in ("I", "II"))


def test_outcomes_of_the_authors_way() -> None:
    corpus = corpus_of(7, 9, 3)
    found = [
        outcome
        for outcome in settings.authors_outcomes(corpus, "II", [1, 3])
        if outcome.technique == "ed-mf"
    ]
    assert [(o.task, o.measurements) for o in found] == [
        (task, count) for task in ("task 1", "task 3") for count in range(5, 16)
    ]
    # Five configurations are feasible: after five measurements all memory is spent.
    assert {outcome.relative_memory for outcome in found} == {1.0}
    assert max(outcome.convergence for outcome in found) < 1e-9


def test_quick_runs_spread_over_the_corpus() -> None:
    rows = settings.chosen_rows
    assert rows(corpus_of(11, 4, 2), True) == [0, 5, 10]
    assert rows(corpus_of(2, 4, 2), True) == rows(corpus_of(2, 4, 2), False) == [0, 1]


# Comparison


def outcome(technique: str, task: str, count: int, convergence: float) -> settings.Outcome:
    return settings.Outcome("authors", "I", technique, count, task, 0.1 * count, convergence, 0.5)


def test_differences_are_paired_over_tasks_and_averaged_over_measurements() -> None:
    found = [
        *(outcome("ed-mf", "a", count, 0.1) for count in (5, 6, 7)),
        *(outcome("ed-mf", "b", count, 0.4) for count in (5, 6, 7)),
        *(outcome("qr-mf", "b", count, 0.5) for count in (5, 6, 7)),
        *(outcome("qr-mf", "a", count, 0.1 * (count - 4)) for count in (5, 6, 7)),
    ]
    # On task a 0, 0.1 and 0.2 more, on task b 0.1.
    match = comparison.Match("authors", "I", ["qr-mf"], [5, 6, 7])
    mean, error = match.excess(found, "qr-mf", "convergence")
    assert mean == pytest.approx(0.1)
    assert error == pytest.approx(0)
    match = comparison.Match("authors", "I", ["qr-mf"], [5])
    mean, error = match.excess(found, "qr-mf", "convergence")
    assert mean == pytest.approx(0.05)
    assert error == pytest.approx(0.05)
    summary = comparison.summaries(found)
    assert [(row["technique"], row["measurements"]) for row in summary] == [
        (technique, count) for technique in ("ed-mf", "qr-mf") for count in (5, 6, 7)
    ]
    assert summary[3]["convergence"] == pytest.approx(0.3)
    assert summary[3]["convergence_standard_error"] == pytest.approx(0.2)
    assert summary[3]["relative_memory"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("excess", "at_least_as_good", "matches"),
    [((0.1, 0.3), True, True), ((0.2, 0.21), True, False), ((-0.2, -0.21), False, True)],
)
def test_verdicts_take_two_standard_errors(
    excess: tuple[float, float], at_least_as_good: bool, matches: bool
) -> None:
    found = [
        outcome(technique, task, 15, 0.5 + more)
        for technique, mores in (("ed-mf", (0.0, 0.0)), ("qr-mf", excess))
        for task, more in zip("ab", mores, strict=True)
    ]
    match = comparison.Match("authors", "I", ["qr-mf"], [15])
    assert (match.won(found, "result", "paper").verdict == "same") == at_least_as_good
    # HyperDiff is the same: one of two metrics matches in any case, which is half.
    caught_up = match.drawn(found, "result", "paper")
    assert caught_up.verdict == "same"
    assert f"{1 + matches} of 2 within two standard errors" in caught_up.note


# Meta-training


def test_a_perfect_completion_has_no_error_and_drawn_errors_are_known() -> None:
    corpus = corpus_of(4, 6, 2)
    everything = np.ones(corpus.errors.shape, dtype=np.bool_)
    perfect = sampling.qualities(corpus, corpus.errors, ~everything, range(4))
    assert perfect.shape == (4, 2, 3)
    np.testing.assert_array_equal(perfect, 0)
    # The authors judge the completion, the plain definition what is known.
    off = sampling.qualities(corpus, corpus.errors / 2, everything, range(4))
    assert off[:, 0].min() > 0
    np.testing.assert_array_equal(off[:, 1], 0)


def test_summaries_of_samples() -> None:
    corpus = corpus_of(5, 6, 2)
    found = sampling.sampled(corpus, {0.5: np.full(corpus.errors.shape, 0.5)}, example=2, samples=3)
    assert found[0].tasks.shape == (5, 2, 3)
    # The first sample of the example is that of all tasks.
    np.testing.assert_array_equal(found[0].example[0], found[0].tasks[2])
    rows = sampling.summaries(found, weighted=False)
    assert [(row["convention"], row["metric"]) for row in rows[:4]] == [
        *(("authors", metric) for metric in ("relative_error", "convergence", "hyperdiff")),
        ("plain", "relative_error"),
    ]
    assert rows[1]["median"] == sampling.medians(found, "authors", "convergence")[0]
    assert rows[1]["samples"] == 3


# Anchors


@pytest.mark.parametrize(
    ("paper", "verdict"), [("0.05", "same"), ("0.95", "same"), ("0.04", "different")]
)
def test_one_draw_is_compared_with_the_central_ninety_percent(paper: str, verdict: str) -> None:
    anchor = anchors.one_draw("result", paper, np.linspace(0, 1, 101), "why")
    assert anchor.verdict == verdict
    assert anchor.ours == "median 0.500, central 90% 0.050 to 0.950"
    assert anchor.note.endswith("of 101 draws; why")


def test_the_papers_example_lies_within_our_samples(shared: Path, tmp_path: Path) -> None:
    path = shared / "peppp" / "corpus.csv"
    command = ["--corpus", str(path), "--quick", "--output", str(tmp_path)]
    assert figures.main([*command, "--only", "figure_10"]) == 0
    found = read(tmp_path / "figure_10_anchors.csv")
    theirs = [anchor for anchor in found if "authors" in anchor["result"]]
    assert [(anchor["paper"], anchor["verdict"]) for anchor in theirs] == [
        (paper, "same") for paper in ("0.09", "0.16", "0.03", "0.02")
    ]
