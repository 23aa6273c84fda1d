from __future__ import annotations

import csv
import doctest
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from optuna_peppp import ConfigurationSpace, ErrorMatrix, load_corpus

pytest.importorskip("matplotlib", reason="needs the extra benchmarks")

REPRODUCE = Path(__file__).resolve().parents[1] / "benchmarks" / "reproduce"
SCRIPTS = [
    path.stem for kind in ("figure", "appendix") for path in sorted(REPRODUCE.glob(f"{kind}_*.py"))
]
LEARNING_RATES = tuple(f"figure_{number}" for number in range(20, 25))


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    # As when a script is run: its folder comes first on the path; common.py adds the one above.
    monkeypatch.syspath_prepend(str(REPRODUCE.parent))
    monkeypatch.syspath_prepend(str(REPRODUCE))


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def corpus_of(names: dict[str, list[Any]], tasks: int = 8, seed: int = 0) -> ErrorMatrix:
    """Errors of rank 2 with noise; memory that grows with the configuration."""
    rng = np.random.default_rng(seed)
    space = ConfigurationSpace(names)
    signal_ = rng.uniform(0.2, 0.8, (tasks, 2)) @ rng.uniform(0.2, 0.6, (2, len(space)))
    errors = np.clip(signal_ + rng.normal(0, 0.02, signal_.shape), 0, 1)
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
    matrix = corpus_of({**FORMATS, "learning_rate": [0.1, 0.01, 0.001]})
    errors = matrix.errors.copy()
    errors[-1, 2::3] = np.nan
    path = tmp_path / "corpus-lr.csv"
    ErrorMatrix(matrix.space, matrix.tasks, errors, matrix.memory).write_csv(path)
    return path


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# Anchors


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(module("anchors")) == (0, 2)


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
    anchor = module("anchors").number("result", paper, ours)
    assert (anchor.verdict, anchor.ours) == (verdict, text)


def test_tolerances_are_half_a_unit_of_the_last_digit() -> None:
    number = module("anchors").number
    printed = ("0.78", "816 MiB", "99.0%", "> 99.5%")
    tolerances = [number("result", paper, 0.0).tolerance for paper in printed]
    assert tolerances == ["0.005", "0.5 MiB", "0.05%", ""]
    with pytest.raises(ValueError, match=r"paper must be a number .*; got 'many'"):
        number("result", "many", 1)


def test_anchors_survive_their_file_and_fill_a_table(tmp_path: Path) -> None:
    anchors = module("anchors")
    found = [
        anchors.number("a", "0.78", 0.78, "as printed, with a comma"),
        anchors.claim("b | c", "grows", "shrinks", holds=False),
        anchors.not_tested("d", "0.5", "not published"),
    ]
    path = tmp_path / "anchors.csv"
    anchors.write_anchors(path, found)
    assert anchors.read_anchors(path) == found
    assert anchors.markdown(found).splitlines()[2:] == [
        "| a | 0.78 (± 0.005) | 0.7800 | same | as printed, with a comma |",
        "| b \\| c | grows | shrinks | different |  |",
        "| d | 0.5 |  | not tested | not published |",
    ]


# Scripts


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_runs_on_a_small_corpus(
    name: str, corpus: Path, lr_corpus: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results"
    (tmp_path / "results").mkdir()
    stale = output / f"{name}_anchors.csv"
    stale.touch()
    module(name).main(["--corpus", str(corpus), "--quick", "--output", str(output)])
    assert table(output / f"{name}.csv")
    assert (output / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((output / f"{name}.json").read_text())
    assert (record["corpus"], record["quick"], record["numpy"]) == ("small", True, np.__version__)
    assert not stale.exists(), "anchors are the authors' matrix's only"


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in LEARNING_RATES])
def test_the_corpus_that_ships_will_do(name: str, tmp_path: Path) -> None:
    module(name).main(["--corpus", "plain3-cifar100", "--quick", "--output", str(tmp_path)])
    assert table(tmp_path / f"{name}.csv")


@pytest.mark.parametrize("name", LEARNING_RATES)
def test_without_learning_rates_there_is_nothing_to_do(
    name: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results"
    with pytest.raises(SystemExit) as stop:
        module(name).main(["--corpus", str(corpus), "--output", str(output)])
    assert stop.value.code == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: no learning-rate-tuned corpus (--lr-corpus), nothing written"
    ]
    assert not list(output.iterdir())


def test_a_quick_run_leaves_the_results_of_a_full_one_alone(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = module("common")
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    for arguments, folder in (([], "small"), (["--quick"], "small-quick")):
        script = common.start("figure_01.py", None, ["--corpus", str(corpus), *arguments])
        assert script.output == tmp_path / "results" / folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corpus", "missing.csv"], "missing.csv"),
        (["--corpus", "unheard-of"], "name must be a corpus that ships"),
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
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [text.format(corpus=corpus, lr_corpus=lr_corpus) for text in arguments]
    with pytest.raises(SystemExit) as stop:
        module("figure_21").main([*given, "--output", str(tmp_path / "results")])
    # A text instead of a status is printed, and the status is 1.
    assert stop.value.code not in (0, None)
    assert message in capsys.readouterr().err + str(stop.value.code)


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


@pytest.mark.parametrize("name", EXPECTED)
def test_the_papers_numbers_come_out_of_the_authors_matrix(
    name: str, shared: Path, tmp_path: Path
) -> None:
    path = shared / "peppp" / "corpus.csv"
    module(name).main(["--corpus", str(path), "--output", str(tmp_path)])
    anchors = module("anchors").read_anchors(tmp_path / f"{name}_anchors.csv")
    assert [anchor.verdict for anchor in anchors] == EXPECTED[name]


def test_the_one_that_the_papers_list_leaves_out_is_on_all_frontiers(
    shared: Path, tmp_path: Path
) -> None:
    path = shared / "peppp" / "corpus.csv"
    module("appendix_d").main(["--corpus", str(path), "--output", str(tmp_path)])
    first, *_, sixth = table(tmp_path / "appendix_d.csv")[:6]
    assert (first["configuration"], first["nondominated"]) == ("1-3-1 / 1-6-7", "87")
    assert (sixth["configuration"], sixth["nondominated"]) == ("1-5-2 / 1-6-7", "21")


def test_the_table_in_the_readme_is_what_the_scripts_wrote() -> None:
    benchmarks = REPRODUCE.parent
    table = benchmarks / "results" / "reproduce" / "corpus" / "anchors.md"
    assert table.read_text() in (benchmarks / "README.md").read_text()


def test_the_authors_matrix_is_known_by_its_shape_and_names(shared: Path) -> None:
    is_authors = module("common").is_authors
    theirs = ErrorMatrix.read_csv(shared / "peppp" / "corpus.csv")
    assert is_authors(theirs)
    names = tuple(f"task {i}" for i in range(87))
    assert not is_authors(ErrorMatrix(theirs.space, names, theirs.errors, theirs.memory))
    assert not is_authors(load_corpus("plain3-cifar100"))
    fewer = ErrorMatrix(theirs.space, theirs.tasks[:-1], theirs.errors[:-1], theirs.memory[:-1])
    assert not is_authors(fewer)


# What is counted


def test_a_winner_has_the_lowest_feasible_error_and_of_equals_the_smallest_memory() -> None:
    winner = module("figure_01").most_frequent_winner
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
    counts = module("appendix_d").frontier_counts(corpus)
    assert list(counts) == list(expected)
    for kind, count in expected.items():
        np.testing.assert_array_equal(counts[kind], count)


def test_rank_correlations_of_equal_and_of_opposite_orders() -> None:
    errors = np.array([[1.0, 2, 3, 4], [10, 20, 30, 40], [4, 3, 2, 1], [1, 2, 4, 3]])
    tau = module("figure_06").rank_correlations(errors)
    np.testing.assert_allclose(tau[0], [1, 1, -1, 4 / 6])
    np.testing.assert_array_equal(tau, tau.T)


def test_learning_rates_become_rows() -> None:
    lr = module("lr")
    matrix = corpus_of({"format_a": ["1-3-1", "1-4-1"], "learning_rate": [0.01, 0.1]}, tasks=3)
    errors = matrix.errors.copy()
    errors[1, [1, 3]] = np.nan
    partial = ErrorMatrix(matrix.space, matrix.tasks, errors, matrix.memory)
    rows = lr.as_rows(partial)
    assert rows.tasks == (
        *("task 0 at 0.1", "task 2 at 0.1"),
        *("task 0 at 0.01", "task 1 at 0.01", "task 2 at 0.01"),
    )
    assert rows.space.choices == {"format_a": ("1-3-1", "1-4-1")}
    np.testing.assert_array_equal(rows.errors[:2], errors[[0, 2]][:, [1, 3]])
    np.testing.assert_array_equal(rows.errors[2:], errors[:, [0, 2]])
    np.testing.assert_array_equal(rows.memory[3], matrix.memory[1, [0, 2]])


def test_the_authors_learning_rates_are_table_5(shared: Path) -> None:
    lr = module("lr")
    matrix = ErrorMatrix.read_csv(shared / "peppp" / "corpus-lr.csv")
    assert lr.is_authors_lr(matrix)
    assert matrix.errors.shape == (16, 297)
    assert np.count_nonzero(~matrix.observed) == 3 * 99
    rows = lr.as_rows(matrix)
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


# All of them


HEADER = """
import os, sys, time
from pathlib import Path

name, output = Path(__file__).stem, Path(sys.argv[sys.argv.index("--output") + 1])

def write_anchor():
    line = f"result,paper,ours,tolerance,verdict,note\\n{name},1,1,0.5,same,\\n"
    (output / f"{name}_anchors.csv").write_text(line)
"""


def test_a_failing_script_stops_no_other_and_is_reported(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = tmp_path / "scripts", tmp_path / "results"
    folder.mkdir()
    for name, text in {
        "figure_01": "write_anchor(); print('fine', sys.argv[1:])",
        "figure_02": "write_anchor(); sys.exit('broken')",
        "figure_03": "write_anchor(); print('fine too')",
        "appendix_z": "write_anchor()",
        "common": "sys.exit('not to be run')",
    }.items():
        (folder / f"{name}.py").write_text(HEADER + text)
    arguments = ["--corpus", str(corpus), "--quick", "--output", str(output)]
    assert module("all").main(arguments, folder) == 1
    printed = capsys.readouterr()
    assert f"fine {arguments}" in printed.out
    assert "fine too" in printed.out
    assert printed.err.endswith("figure_02 failed:\nbroken\n\n")
    assert "not to be run" not in printed.err
    assert [row["result"] for row in table(output / "anchors.csv")] == [
        "figure_01",
        "figure_03",
        "appendix_z",
    ]
    assert (output / "anchors.md").read_text() in printed.out


def test_all_discovers_and_runs_the_scripts_of_its_folder(
    monkeypatch: pytest.MonkeyPatch, corpus: Path, tmp_path: Path
) -> None:
    everything = module("all")
    seen: list[str] = []

    def run(scripts: list[Path], arguments: list[str]) -> Any:
        for script in scripts:
            seen.append(script.stem)
            yield script, 0, ""

    monkeypatch.setattr(everything, "run", run)
    assert everything.main(["--corpus", str(corpus), "--output", str(tmp_path)]) == 0
    assert sorted(seen) == sorted(SCRIPTS)
    assert seen[: len(everything.SLOWEST)] == list(everything.SLOWEST)
    assert set(EXPECTED) <= set(seen)


@pytest.mark.usefixtures("_hears_ctrl_c")
def test_ctrl_c_ends_the_scripts_that_run(corpus: Path, tmp_path: Path) -> None:
    folder, output = tmp_path / "scripts", tmp_path / "results"
    folder.mkdir()
    for name in ("figure_01", "figure_02", "figure_03"):
        text = "(output / f'{name}.pid').write_text(str(os.getpid())); time.sleep(60)"
        (folder / f"{name}.py").write_text(HEADER + text)
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import all;"
        "sys.exit(all.main(sys.argv[3:], Path(sys.argv[2])))"
    )
    arguments = ["--corpus", str(corpus), "--output", str(output)]
    process = subprocess.Popen(
        [sys.executable, "-c", program, REPRODUCE, folder, *arguments],
        stderr=subprocess.PIPE,
        text=True,
    )
    started = [output / "figure_01.pid", output / "figure_02.pid"]
    deadline = time.monotonic() + 60
    while not all(path.exists() and path.read_text() for path in started):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in errors
    for path in started:
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)
    assert not (output / "figure_03.pid").exists()
