from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.harness.script import BENCHMARKS
from benchmarks.harness.tables import read
from benchmarks.paper import anchors, figures, frontiers, learning_rates, matrix
from benchmarks.paper.script import is_authors
from optuna_peppp import ConfigurationSpace, ErrorMatrix, load_corpus


def corpus_of(names: dict[str, list[Any]], tasks: int = 8, seed: int = 0) -> ErrorMatrix:
    """Errors of rank 2 with noise; memory that grows with the configuration."""
    rng = np.random.default_rng(seed)
    space = ConfigurationSpace(names)
    signal = rng.uniform(0.2, 0.8, (tasks, 2)) @ rng.uniform(0.2, 0.6, (2, len(space)))
    errors = np.clip(signal + rng.normal(0, 0.02, signal.shape), 0, 1)
    memory = np.tile(np.arange(1, len(space) + 1) * 1e6, (tasks, 1))
    return ErrorMatrix(space, tuple(f"task {i}" for i in range(tasks)), errors, memory)


FORMATS: dict[str, list[Any]] = {
    "format_a": ["1-3-1", "1-4-1", "1-4-3"],
    "format_b": ["1-6-7", "1-6-9", "1-7-7", "1-8-7"],
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "small.csv"
    corpus_of(FORMATS).write_csv(path)
    return path


@pytest.fixture
def lr_corpus(tmp_path: Path) -> Path:
    """The same with three learning rates; the last task misses one of them."""
    whole = corpus_of({**FORMATS, "learning_rate": [0.1, 0.01, 0.001]})
    errors = whole.errors.copy()
    errors[-1, 2::3] = np.nan
    path = tmp_path / "corpus-lr.csv"
    ErrorMatrix(whole.space, whole.tasks, errors, whole.memory).write_csv(path)
    return path


# Anchors


@pytest.mark.parametrize(
    ("paper", "ours", "verdict", "text"),
    [
        ("0.78", 0.7849, "same", "0.7849"),
        ("0.78", 0.785, "same", "0.7850"),
        ("0.78", 0.7851, "different", "0.7851"),
        ("0.78", 0.7749, "different", "0.7749"),
        ("60", 60, "same", "60"),
        ("60", 61, "different", "61"),
        ("816 MiB", 816.37, "same", "816.37 MiB"),
        ("816 MiB", 815.4, "different", "815.40 MiB"),
        ("99.0%", 0.98951, "same", "98.951%"),
        ("99.0%", 0.9894, "different", "98.940%"),
        ("> 99.5%", 0.9951, "same", "99.510%"),
        ("> 99.5%", 0.995, "different", "99.500%"),
        ("> 10", 10.5, "same", "10.50"),
    ],
)
def test_a_number_is_the_same_if_it_rounds_to_what_the_paper_prints(
    paper: str, ours: float, verdict: str, text: str
) -> None:
    anchor = anchors.number("result", paper, ours)
    assert (anchor.verdict, anchor.ours) == (verdict, text)


def test_tolerances_are_half_a_unit_of_the_last_digit() -> None:
    printed = ("0.78", "816 MiB", "99.0%", "> 99.5%")
    tolerances = [anchors.number("result", paper, 0.0).tolerance for paper in printed]
    assert tolerances == ["0.005", "0.5 MiB", "0.05%", ""]
    with pytest.raises(ValueError, match=r"paper must be a number .*; got 'many'"):
        anchors.number("result", "many", 1)


def test_anchors_survive_their_file_and_fill_a_table(tmp_path: Path) -> None:
    found = [
        anchors.number("a", "0.78", 0.78, "as printed, with a comma"),
        anchors.claim("b | c", "grows", "shrinks", holds=False),
        anchors.not_tested("d", "0.5", "not published"),
    ]
    path = tmp_path / "anchors.csv"
    anchors.write_anchors(path, found)
    assert read(path) == [asdict(anchor) for anchor in found]
    assert anchors.markdown(found).splitlines()[2:] == [
        "| a | 0.78 (± 0.005) | 0.7800 | same | as printed, with a comma |",
        "| b \\| c | grows | shrinks | different |  |",
        "| d | 0.5 |  | not tested | not published |",
    ]


# Figures


def test_every_figure_is_made_of_a_small_corpus(
    corpus: Path, lr_corpus: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results"
    output.mkdir()
    stale = output / "figure_01_anchors.csv"
    stale.touch()
    assert figures.main(["--corpus", str(corpus), "--quick", "--output", str(output)]) == 0
    for name in figures.FIGURES:
        assert read(output / f"{name}.csv")
        assert (output / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        record = json.loads((output / f"{name}.json").read_text())
        ran_on = record["corpus"], record["quick"], record["numpy"]
        assert ran_on == ("small", True, np.__version__)
    assert not stale.exists(), "anchors are the authors' matrix's only"


def test_without_learning_rates_there_is_nothing_to_do(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results"
    command = ["--corpus", str(corpus), "--output", str(output), "--only", *figures.TUNED]
    assert figures.main(command) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: no learning-rate-tuned corpus (--lr-corpus), nothing written"
        for name in figures.TUNED
    ]
    assert not list(output.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corpus", "{lr_corpus}"], "12 of 288 miss their error or memory"),
        (["--corpus", "{corpus}", "--lr-corpus", "missing.csv"], "missing.csv"),
        (["--corpus", "{corpus}", "--lr-corpus", "{corpus}"], "must tune learning_rate"),
    ],
)
def test_a_corpus_that_cannot_be_used_is_refused_in_one_sentence(
    arguments: list[str],
    message: str,
    corpus: Path,
    lr_corpus: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [text.format(corpus=corpus, lr_corpus=lr_corpus) for text in arguments]
    with pytest.raises(SystemExit):
        figures.main(given)
    assert message in capsys.readouterr().err


def test_a_failing_figure_stops_no_other_and_is_reported(
    lr_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Five configurations have no median memory that six measurements could be within.
    tiny = tmp_path / "tiny.csv"
    corpus_of({"format_a": ["1-3-1", "1-4-1"], "format_b": ["1-6-7"]}, tasks=1).write_csv(tiny)
    command = ["--corpus", str(tiny), "--quick", "--output", str(tmp_path / "results")]
    assert figures.main([*command, "--only", "figure_15", "figure_13"]) == 1
    assert "figure_13 failed:\nTraceback" in capsys.readouterr().err
    assert read(tmp_path / "results" / "figure_15.csv")


# The authors' numbers

EXPECTED = {
    "appendix_d": ["same"] * 5 + ["different"],
    "figure_01": ["same"],
    "figure_06": ["same"] * 2,
    "figure_14": ["same"] * 3,
    "figure_15": ["same"] * 2,
    "figure_16": ["same"] * 2,
    "figure_20": ["not tested", "same", "same"],
    "figure_21": ["same"] * 2,
}


def test_the_papers_numbers_come_out_of_the_authors_matrix(shared: Path, tmp_path: Path) -> None:
    path = shared / "peppp" / "corpus.csv"
    command = ["--corpus", str(path), "--output", str(tmp_path), "--only", *EXPECTED]
    assert figures.main(command) == 0
    for name, verdicts in EXPECTED.items():
        found = read(tmp_path / f"{name}_anchors.csv")
        assert [anchor["verdict"] for anchor in found] == verdicts
    # The one that the paper's list leaves out is on all frontiers.
    first, *_, sixth = read(tmp_path / "appendix_d.csv")[:6]
    assert (first["configuration"], first["nondominated"]) == ("1-3-1 / 1-6-7", "87")
    assert (sixth["configuration"], sixth["nondominated"]) == ("1-5-2 / 1-6-7", "21")


def test_the_table_in_the_readme_is_what_the_figures_wrote() -> None:
    table = BENCHMARKS / "results" / "reproduce" / "corpus" / "anchors.md"
    assert table.read_text() in (BENCHMARKS / "README.md").read_text()
    rows: list[dict[str, Any]] = [*read(table.with_suffix(".csv"))]
    assert anchors.markdown([anchors.Anchor(**row) for row in rows]) == table.read_text()


def test_the_authors_matrix_is_known_by_its_shape_and_names(shared: Path) -> None:
    theirs = ErrorMatrix.read_csv(shared / "peppp" / "corpus.csv")
    assert is_authors(theirs)
    names = tuple(f"task {i}" for i in range(87))
    assert not is_authors(ErrorMatrix(theirs.space, names, theirs.errors, theirs.memory))
    assert not is_authors(load_corpus("plain3-cifar100"))
    fewer = ErrorMatrix(theirs.space, theirs.tasks[:-1], theirs.errors[:-1], theirs.memory[:-1])
    assert not is_authors(fewer)


# What is counted


def test_a_winner_has_the_lowest_feasible_error_and_of_equals_the_smallest_memory() -> None:
    winner = frontiers.most_frequent_winner
    space = ConfigurationSpace({"configuration": range(4)})
    memory = np.tile([1.0, 2.0, 3.0, 5.0], (3, 1))
    errors = np.array([[0.9, 0.5, 0.5, 0.1], [0.9, 0.6, 0.5, 0.2], [0.3, 0.5, 0.4, 0.3]])
    corpus = ErrorMatrix(space, ("a", "b", "c"), errors, memory)
    assert winner(corpus, 0.0) == (0, 3)
    assert winner(corpus, 0.25) == (1, 2)
    # One task each: the first configuration.
    assert winner(corpus, 0.5) == (0, 1)
    assert winner(corpus, 1.0) == (3, 2)


def test_counts_on_frontiers_are_those_of_the_definitions() -> None:
    rng = np.random.default_rng(0)
    space = ConfigurationSpace({"configuration": range(12)})
    # Few values: many are equal.
    errors = rng.integers(0, 4, (30, 12)) / 4
    memory = rng.integers(1, 4, (30, 12)).astype(float)
    corpus = ErrorMatrix(space, tuple(map(str, range(30))), errors, memory)
    expected = {kind: np.zeros(12) for kind in ("nondominated", "frontier", "pareto_optimal")}
    for row in range(30):
        points = list(zip(memory[row], errors[row], strict=True))
        for j, (m, e) in enumerate(points):
            better = [
                i for i, (n, f) in enumerate(points) if n <= m and f <= e and (n, f) != (m, e)
            ]
            equal = [i for i, point in enumerate(points) if point == (m, e)]
            if not better:
                expected["pareto_optimal"][j] += 1
                expected["frontier"][j] += equal[0] == j
                expected["nondominated"][j] += len(equal) == 1
    counts = frontiers.frontier_counts(corpus)
    assert list(counts) == list(expected)
    for kind, count in expected.items():
        np.testing.assert_array_equal(counts[kind], count)


def test_rank_correlations_of_equal_and_of_opposite_orders() -> None:
    errors = np.array([[1.0, 2, 3, 4], [10, 20, 30, 40], [4, 3, 2, 1], [1, 2, 4, 3]])
    tau = matrix.rank_correlations(errors)
    np.testing.assert_allclose(tau[0], [1, 1, -1, 4 / 6])
    np.testing.assert_array_equal(tau, tau.T)


def test_learning_rates_become_rows() -> None:
    whole = corpus_of({"format_a": ["1-3-1", "1-4-1"], "learning_rate": [0.01, 0.1]}, tasks=3)
    errors = whole.errors.copy()
    errors[1, [1, 3]] = np.nan
    partial = ErrorMatrix(whole.space, whole.tasks, errors, whole.memory)
    rows = learning_rates.as_rows(partial)
    assert rows.tasks == (
        *("task 0 at 0.1", "task 2 at 0.1"),
        *("task 0 at 0.01", "task 1 at 0.01", "task 2 at 0.01"),
    )
    assert rows.space.choices == {"format_a": ("1-3-1", "1-4-1")}
    np.testing.assert_array_equal(rows.errors[:2], errors[[0, 2]][:, [1, 3]])
    np.testing.assert_array_equal(rows.errors[2:], errors[:, [0, 2]])
    np.testing.assert_array_equal(rows.memory[3], whole.memory[1, [0, 2]])


def test_the_authors_learning_rates_are_table_5(shared: Path) -> None:
    matrix = ErrorMatrix.read_csv(shared / "peppp" / "corpus-lr.csv")
    assert learning_rates.is_authors(matrix)
    assert matrix.errors.shape == (16, 297)
    assert np.count_nonzero(~matrix.observed) == 3 * 99
    rows = learning_rates.as_rows(matrix)
    assert rows.errors.shape == (45, 99)
    assert rows.observed.all()
    assert rows.space == ConfigurationSpace.paper()
    assert [rows.tasks[i] for i in (0, 1, 16, 31, 32, 44)] == [
        "CIFAR100 (aquatic mammals) at 0.01",
        "CIFAR100 (fish) at 0.01",
        "CIFAR100 (aquatic mammals) at 0.001",
        "CIFAR100 (reptiles) at 0.001",
        "CIFAR100 (aquatic mammals) at 0.0001",
        "CIFAR100 (medium-sized mammals) at 0.0001",
    ]
