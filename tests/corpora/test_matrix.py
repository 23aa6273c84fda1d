from __future__ import annotations

import csv
import math
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from optuna_peppp.configurations.space import ConfigurationSpace, Value
from optuna_peppp.corpora.catalog import load_corpus, read_corpus
from optuna_peppp.corpora.matrix import ErrorMatrix, stack

SPACE = ConfigurationSpace({"format_a": ["1-3-1", "1-4-3"], "format_b": ["1-6-7", "1-8-11"]})
HEADER = "task,model,format_a,format_b,learning_rate,error,memory\n"
ROW = "digits,plain3,1-4-3,1-6-7,0.001,0.25,1000\n"


def small(**changes: Any) -> ErrorMatrix:
    fields = {
        "space": SPACE,
        "tasks": ("first", "second"),
        "errors": [[0.0, 0.1, 0.2, math.nan], [0.5, 0.6, 0.7, 1.0]],
        "memory": [[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, math.nan, 40.0]],
    }
    return ErrorMatrix(**{**fields, **changes})


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def assert_same_measurements(left: ErrorMatrix, right: ErrorMatrix) -> None:
    """Equal in everything a corpus file keeps."""
    assert left.space == right.space
    assert (left.tasks, left.models) == (right.tasks, right.models)
    assert dict(left.settings) == dict(right.settings)
    np.testing.assert_array_equal(left.errors, right.errors)
    np.testing.assert_array_equal(
        np.where(left.observed, left.memory, np.nan), np.where(right.observed, right.memory, np.nan)
    )


# The record


def test_observed_marks_what_was_measured() -> None:
    assert small().observed.tolist() == [[True, True, True, False], [True] * 4]


def test_tasks_are_called_with_their_networks_where_there_are_several() -> None:
    assert small().labels == ("first", "second")
    assert small(models=("a", "a")).labels == ("first", "second")
    several = small(tasks=("first", "first"), models=("a", "b"))
    assert several.labels == ("first (a)", "first (b)")


@pytest.mark.parametrize("indices", [[1], np.array([False, True])])
def test_rows_are_the_tasks_with_all_that_is_theirs(indices: Any) -> None:
    matrix = small(models=("a", "b"), settings={"epochs": 3})
    taken = matrix.rows(indices)
    errors, memory = matrix.errors[1:], matrix.memory[1:]
    expected = ErrorMatrix(SPACE, ("second",), errors, memory, ("b",), {"epochs": 3})
    assert_same_measurements(taken, expected)
    np.testing.assert_array_equal(taken.memory, expected.memory)


def test_rows_come_in_the_order_that_is_asked_for() -> None:
    assert small().rows([1, 0]).tasks == ("second", "first")
    assert small().rows([1, 0]).models == ()
    np.testing.assert_array_equal(small().rows([1, 0]).errors, small().errors[::-1])


def test_arrays_are_copies_that_cannot_be_written() -> None:
    errors = np.full((2, 4), 0.5)
    matrix = small(errors=errors)
    errors[0, 0] = 0.9
    assert matrix.errors[0, 0] == 0.5
    for array in (matrix.errors, matrix.memory):
        assert array.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 0.5


def test_it_can_be_pickled() -> None:
    matrix = small(models=("plain3", "vgg11"), settings={"epochs": 6})
    assert_same_measurements(pickle.loads(pickle.dumps(matrix)), matrix)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tasks": ("first",)}, r"errors must have shape \(1, 4\), one row per task.*\(2, 4\)"),
        ({"errors": np.zeros((2, 3))}, r"errors must have shape \(2, 4\).*got \(2, 3\)"),
        ({"memory": np.ones(4)}, r"memory must have shape \(2, 4\).*got \(4,\)"),
        ({"errors": [[0, 0, 0, 0], [0, 0, 1.01, 0]]}, r"\[0, 1\].*errors\[1, 2\] is 1.01"),
        ({"errors": [[0, -0.1, 0, 0], [0, 0, 0, 0]]}, r"errors\[0, 1\] is -0.1"),
        ({"errors": [[math.inf, 0, 0, 0], [0, 0, 0, 0]]}, r"errors\[0, 0\] is inf"),
        ({"memory": [[1, 1, 1, 1], [1, 1, 1, 0]]}, r"positive.*memory\[1, 3\] is 0.0"),
        ({"memory": [[1, math.inf, 1, 1], [1, 1, 1, 1]]}, r"memory\[0, 1\] is inf"),
        ({"tasks": ("first", "first")}, "tasks must be unique.*'first' is there twice"),
        (
            {"tasks": ("first", "first"), "models": ("vgg11", "vgg11")},
            "'first' with 'vgg11' is there twice",
        ),
        ({"models": ("vgg11",)}, "models must be empty or name one network per task, 2; got 1"),
        ({"settings": {"format_a": "1-4-3"}}, "settings must not hold 'format_a'"),
        ({"settings": {"memory": 1}}, "settings must not hold 'memory'"),
    ],
)
def test_bad_fields_are_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        small(**changes)


def test_one_task_may_have_several_models() -> None:
    assert small(tasks=("first", "first"), models=("vgg11", "vgg13")).errors.shape == (2, 4)


# Writing and reading


def test_the_file_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "corpus.csv"
    small(models=("plain3", "vgg11"), settings={"learning_rate": 0.001}).write_csv(path)
    assert path.read_text() == (
        "task,model,format_a,format_b,learning_rate,error,memory\n"
        "first,plain3,1-3-1,1-6-7,0.001,0.0,1.0\n"
        "first,plain3,1-3-1,1-8-11,0.001,0.1,2.0\n"
        "first,plain3,1-4-3,1-6-7,0.001,0.2,3.0\n"
        "second,vgg11,1-3-1,1-6-7,0.001,0.5,10.0\n"
        "second,vgg11,1-3-1,1-8-11,0.001,0.6,20.0\n"
        "second,vgg11,1-4-3,1-6-7,0.001,0.7,\n"
        "second,vgg11,1-4-3,1-8-11,0.001,1.0,40.0\n"
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tasks": ("", "b")}, "task must be the name of a data set"),
        ({"tasks": ("cats ", "b")}, "task must not begin or end with a space; got 'cats '"),
        ({"tasks": ("=1+1", "b")}, "task must not begin with '='"),
        ({"tasks": ("a\nb", "b")}, "task must be of characters that can be printed"),
        ({"models": ("@x", "b")}, "model must not begin with '@'"),
        ({"settings": {"x": "nan"}}, "x must hold numbers such as .* got 'nan'"),
        ({"settings": {"x": ""}}, "x must hold a choice; got none"),
        ({"settings": {"-x": 1}}, "the name of a column must not begin with '-'"),
        ({"space": ConfigurationSpace({"x": ["1_0", "b", "c", "d"]})}, "x must hold numbers"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    path = write(tmp_path / "corpus.csv", "before")
    with pytest.raises(ValueError, match=problem):
        small(**changes).write_csv(path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


names = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=6)
texts = st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1, max_size=8).filter(
    lambda text: text == text.strip() and text.isprintable() and text[0] not in "=+-@"
)
values = st.one_of(
    st.integers(-1000, 1000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["adam", "sgd", "a, b", 'said "so"']),
)


@st.composite
def matrices(draw: st.DrawFn) -> ErrorMatrix:
    reserved = {"task", "model", "error", "memory"}
    columns = draw(
        st.lists(
            names.filter(lambda name: name not in reserved), min_size=1, max_size=3, unique=True
        )
    )
    tuned = draw(st.integers(1, len(columns)))
    choices: dict[str, list[Value]] = {
        name: draw(st.lists(values, min_size=1, max_size=3, unique=True))
        for name in columns[:tuned]
    }
    space = ConfigurationSpace(choices)
    constants = {name: draw(values) for name in columns[tuned:]}
    tasks = draw(st.lists(texts, min_size=1, max_size=3, unique=True))
    shape = (len(tasks), len(space))
    errors = draw(arrays(np.float64, shape, elements=st.floats(0, 1) | st.just(math.nan)))
    errors[np.isnan(errors).all(axis=1), 0] = 0.5
    memory = draw(
        arrays(
            np.float64,
            shape,
            elements=st.floats(0, exclude_min=True, allow_infinity=False) | st.just(math.nan),
        )
    )
    models = tuple(draw(texts | st.just("")) for _ in tasks) if draw(st.booleans()) else ()
    return ErrorMatrix(space, tuple(tasks), errors, memory, models, constants)


@settings(deadline=None)
@given(matrix=matrices())
def test_what_is_written_is_read_back_exactly(
    matrix: ErrorMatrix, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("corpus") / "corpus.csv"
    matrix.write_csv(path)
    assert_same_measurements(ErrorMatrix.read_csv(path, matrix.space), matrix)


def test_the_authors_corpus_gives_the_papers_space_whatever_the_row_order(
    shared: Path, tmp_path: Path
) -> None:
    source = shared / "peppp" / "corpus.csv"
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    matrix = ErrorMatrix.read_csv(source)
    assert matrix.space == ConfigurationSpace.paper()
    assert matrix.errors.shape == (87, 99)
    assert matrix.settings == {"learning_rate": 0.001}
    assert set(matrix.models) == {"resnet18"}
    # The file stands in the order of the matrix.
    assert matrix.errors.ravel().tolist() == [float(row["error"]) for row in rows]
    assert matrix.memory.ravel().tolist() == [float(row["memory"]) for row in rows]
    assert matrix.tasks == tuple(dict.fromkeys(row["task"] for row in rows))

    lines = source.read_text().splitlines(keepends=True)
    body = random.Random(0).sample(lines[1:], len(lines) - 1)
    shuffled = ErrorMatrix.read_csv(write(tmp_path / "shuffled.csv", "".join([lines[0], *body])))
    assert shuffled.space == matrix.space
    order = [shuffled.tasks.index(task) for task in matrix.tasks]
    np.testing.assert_array_equal(shuffled.errors[order], matrix.errors)

    matrix.write_csv(tmp_path / "again.csv")
    assert_same_measurements(ErrorMatrix.read_csv(tmp_path / "again.csv"), matrix)


def test_the_authors_learning_rates_are_tuned_and_what_is_missing_stays_nan(shared: Path) -> None:
    matrix = ErrorMatrix.read_csv(shared / "peppp" / "corpus-lr.csv")
    assert matrix.errors.shape == (16, 297)
    assert matrix.space.choices["learning_rate"] == (0.0001, 0.001, 0.01)
    assert matrix.settings == {}
    assert np.count_nonzero(~matrix.observed) == 3 * 99


# What a file means


def test_names_that_vary_are_tuned_in_canonical_order(tmp_path: Path) -> None:
    path = write(
        tmp_path / "corpus.csv",
        "task,format_a,epochs,optimizer,learning_rate,batch,error,memory,seed\n"
        "t,1-4-10,20,sgd,1e-1,32,0.1,10,0\n"
        "t,1-4-2,3,adam,0.01,32,0.2,20,1\n"
        "u,1-3-4,20,sgd,1,32,0.3,30,2\n",
    )
    matrix = ErrorMatrix.read_csv(path)
    assert matrix.space.choices == {
        "format_a": ("1-3-4", "1-4-2", "1-4-10"),
        "epochs": (3, 20),
        "optimizer": ("sgd", "adam"),
        "learning_rate": (0.01, 0.1, 1.0),
    }
    assert [type(value) for value in matrix.space.choices["epochs"]] == [int, int]
    assert [type(value) for value in matrix.space.choices["learning_rate"]] == [float] * 3
    assert matrix.settings == {"batch": 32}
    assert matrix.models == ()
    assert np.count_nonzero(matrix.observed) == 3
    params = {"format_a": "1-4-2", "epochs": 3, "optimizer": "adam", "learning_rate": 0.01}
    assert matrix.errors[0, matrix.space.index(params)] == 0.2


def test_a_single_format_is_still_tuned(tmp_path: Path) -> None:
    matrix = ErrorMatrix.read_csv(write(tmp_path / "corpus.csv", HEADER + ROW))
    assert matrix.space == ConfigurationSpace({"format_a": ["1-4-3"], "format_b": ["1-6-7"]})
    assert matrix.settings == {"learning_rate": 0.001}


def test_repeated_measurements_are_averaged(tmp_path: Path) -> None:
    path = write(
        tmp_path / "corpus.csv",
        HEADER + ROW + ROW.replace("0.25,1000", "0.5,1002") + ROW.replace("0.25,1000", "0.75,"),
    )
    matrix = ErrorMatrix.read_csv(path)
    assert matrix.errors.tolist() == [[0.5]]
    assert matrix.memory.tolist() == [[1001.0]]


def test_a_given_space_is_kept_and_other_columns_are_settings(tmp_path: Path) -> None:
    path = write(tmp_path / "corpus.csv", HEADER + ROW)
    matrix = ErrorMatrix.read_csv(path, SPACE)
    assert matrix.space == SPACE
    np.testing.assert_array_equal(matrix.errors, [[math.nan, math.nan, 0.25, math.nan]])
    rates = ConfigurationSpace({"learning_rate": [0.1, 1e-3], "format_a": ["1-4-3"]})
    matrix = ErrorMatrix.read_csv(path, rates)
    assert matrix.errors[0, 1] == 0.25
    assert matrix.settings == {"format_b": "1-6-7"}


def test_choices_are_found_however_they_are_written(tmp_path: Path) -> None:
    space = ConfigurationSpace({"rate": [0.001, 1.0], "width": [64, "auto"], "name": ["1", "01"]})
    path = write(
        tmp_path / "corpus.csv",
        "task,rate,width,name,error,memory\nt,1e-3,64,01,0.1,1\nt,1,auto,1,0.2,1\n",
    )
    matrix = ErrorMatrix.read_csv(path, space)
    assert matrix.errors[0, space.index({"rate": 0.001, "width": 64, "name": "01"})] == 0.1
    assert matrix.errors[0, space.index({"rate": 1.0, "width": "auto", "name": "1"})] == 0.2


def test_blank_lines_and_a_byte_order_mark_are_harmless(tmp_path: Path) -> None:
    path = write(tmp_path / "corpus.csv", "\ufeff" + HEADER.replace("\n", "\r\n\r\n") + ROW + "\n")
    assert ErrorMatrix.read_csv(path).errors.tolist() == [[0.25]]


# Files that cannot be read


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, "the file is empty; expected the header task,model,format_a"),
        ("\n\n", 1, "the file is empty"),
        (HEADER, 1, "the file holds no measurement after its header"),
        ("task,format_a,memory\nt,1-4-3,1\n", 1, "must name task, error, memory; missing error"),
        ("1,2\n", 1, "missing task, error, memory"),
        ("task,x,x,error,memory\nt,1,2,0.5,1\n", 1, "column 3 must have a name of its own"),
        (",task,x,error,memory\n0,t,1,0.5,1\n", 1, "column 1 must have a name of its own"),
        ("task,error,memory\nt,0.5,1\n", 1, "must take more than one value"),
        ("task,x,error,memory\nt,1,0.5,1\n", 1, "must take more than one value"),
        (HEADER + ROW + "digits,plain3,1-4-3\n", 3, "expected 7 fields, as in the header; got 3"),
        (HEADER + ROW.replace(",1000", ",1000,7"), 2, "expected 7 fields.*got 8"),
        (HEADER + ROW + ROW.replace("0.25", "good"), 3, "error must be a number; got 'good'"),
        (HEADER + ROW.replace("0.25", ""), 2, "error must be a number; got ''"),
        (HEADER + ROW.replace("0.25", "25"), 2, r"error must lie in \[0, 1\]; got '25'"),
        (HEADER + ROW.replace("0.25", "-0.1"), 2, r"error must lie in \[0, 1\]"),
        (HEADER + ROW.replace("0.25", "nan"), 2, "error must be a number; got 'nan'"),
        (HEADER + ROW.replace("1000", "1GB"), 2, "memory must be a number; got '1GB'"),
        (HEADER + ROW.replace("1000", "0"), 2, "memory must be a positive number of bytes"),
        (HEADER + ROW.replace("1000", "-5"), 2, "memory must be a positive number of bytes"),
        (HEADER + ROW.replace("1000", "nan"), 2, "memory must be a number; got 'nan'"),
        (HEADER + ROW.replace("1000", "inf"), 2, "memory must be a number; got 'inf'"),
        (HEADER + ROW + ROW.replace("1-4-3", "1-4"), 3, "such as '1-4-3'; got '1-4'"),
        (HEADER + ROW + "\n" + ROW.replace("1-6-7", "1-9-7"), 4, "between 2 and 8 bits; got 9"),
        (HEADER + ROW + ROW.replace("0.25", "0.8"), 3, r"error 0.8 is too far from 0.25 in .* 2,"),
        (HEADER + ROW + '"never closed\n', 3, "not CSV: the quote that opens here is never closed"),
    ],
)
def test_malformed_files_are_refused_with_path_and_line(
    tmp_path: Path, text: str, line: int, problem: str
) -> None:
    path = write(tmp_path / "corpus.csv", text)
    with pytest.raises(ValueError, match=problem) as caught:
        ErrorMatrix.read_csv(path)
    assert str(caught.value).startswith(f"{path}, line {line}: ")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "corpus.csv"
    path.write_bytes(HEADER.encode() + b"\xff\xfe\x00\n")
    with pytest.raises(ValueError, match=r"corpus\.csv, line 2: not text in UTF-8 .*0xff"):
        ErrorMatrix.read_csv(path)


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ErrorMatrix.read_csv(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("space", "line", "problem"),
    [
        ({"format_a": ["1-4-3"], "momentum": [0.9]}, 1, "format_a, momentum; missing momentum"),
        ({"format_a": ["1-3-1"]}, 2, r"params\['format_a'\] must be one of 1-3-1; got '1-4-3'"),
        ({"learning_rate": [0.1]}, 2, "must be one of 0.1; got 0.001"),
        ({"format_a": ["1-4-3"]}, 3, "format_b is '1-8-7' here and '1-6-7' before; put format_b"),
    ],
)
def test_files_of_another_space_are_refused(
    tmp_path: Path, space: dict[str, list[Value]], line: int, problem: str
) -> None:
    path = write(tmp_path / "corpus.csv", HEADER + ROW + ROW.replace("1-6-7", "1-8-7"))
    with pytest.raises(ValueError, match=problem) as caught:
        ErrorMatrix.read_csv(path, ConfigurationSpace(space))
    assert str(caught.value).startswith(f"{path}, line {line}: ")


# Corpora that ship


def test_load_corpus_reads_what_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corpora").mkdir()
    small().write_csv(tmp_path / "corpora" / "small.csv")
    (tmp_path / "corpora" / "README.md").touch()
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    assert_same_measurements(load_corpus("small"), small())
    with pytest.raises(ValueError, match=r"a corpus that ships \(small\); got 'README'"):
        load_corpus("README")


def test_load_corpus_does_not_leave_its_folder() -> None:
    for name in ("missing", "../corpora/missing", ""):
        with pytest.raises(ValueError, match="name must be a corpus that ships") as caught:
            load_corpus(name)
        assert repr(name) in str(caught.value)


def test_a_corpus_is_read_by_name_or_file(tmp_path: Path) -> None:
    small().write_csv(tmp_path / "small.csv")
    assert_same_measurements(read_corpus(str(tmp_path / "small.csv")), small())
    assert_same_measurements(read_corpus("plain3-cifar100"), load_corpus("plain3-cifar100"))
    with pytest.raises(ValueError, match=r"A file of your own, .* ends in \.csv"):
        read_corpus(str(tmp_path / "small.txt"))


# Several matrices


def test_stacking_by_hand() -> None:
    nan = math.nan
    other = ErrorMatrix(
        SPACE,
        ("second", "third"),
        np.array([[0.7, nan, nan, nan], [nan, 0.1, nan, nan]]),
        np.array([[20.0, nan, 7.0, nan], [nan, 1.0, nan, nan]]),
    )
    both = stack([small(), other])
    assert (both.space, both.tasks, both.models) == (SPACE, ("first", "second", "third"), ())
    np.testing.assert_allclose(
        both.errors, [[0.0, 0.1, 0.2, nan], [0.6, 0.6, 0.7, 1.0], [nan, 0.1, nan, nan]]
    )
    np.testing.assert_allclose(
        both.memory, [[1.0, 2.0, 3.0, 4.0], [15.0, 20.0, 7.0, 40.0], [nan, 1.0, nan, nan]]
    )


def test_stacking_one_changes_nothing() -> None:
    matrix = small(models=("plain3", "vgg11"), settings={"epochs": 6})
    assert_same_measurements(stack([matrix]), matrix)


def test_stacking_is_by_task_and_model() -> None:
    named, other, bare = (
        small(models=("plain3", "plain3"), settings={"epochs": 6, "rate": 0.1}),
        small(models=("vgg11", "plain3"), settings={"epochs": 6, "rate": 0.2}),
        small(),
    )
    both = stack([named, other])
    assert list(zip(both.tasks, both.models, strict=True)) == [
        ("first", "plain3"),
        ("second", "plain3"),
        ("first", "vgg11"),
    ]
    assert both.settings == {"epochs": 6}
    three = stack([named, other, bare])
    assert three.models == ("plain3", "plain3", "vgg11", "", "")
    assert three.settings == {}


@given(
    errors=arrays(np.float64, (3, 4), elements=st.floats(0, 0.5) | st.just(math.nan)),
    order=st.permutations(range(2)),
)
def test_stacking_finds_configurations_whatever_their_order(
    errors: np.ndarray[tuple[int, int], np.dtype[np.float64]], order: list[int]
) -> None:
    names = [SPACE.names[position] for position in order]
    turned = ConfigurationSpace({name: SPACE.choices[name][::-1] for name in names})
    columns = [turned.index(SPACE.params(index)) for index in range(len(SPACE))]
    memory = np.where(np.isnan(errors), np.nan, errors + 1)
    moved = np.full((2, 3, 4), np.nan)
    moved[:, :, columns] = errors, memory
    tasks = ("a", "b", "c")
    both = stack([ErrorMatrix(SPACE, tasks, errors, memory), ErrorMatrix(turned, tasks, *moved)])
    np.testing.assert_array_equal(both.errors, errors)
    np.testing.assert_array_equal(both.memory, memory)


def test_matrices_that_cannot_be_stacked() -> None:
    fewer = ConfigurationSpace({"format_a": ["1-3-1"], "format_b": ["1-6-7", "1-8-11"]})
    other = ErrorMatrix(fewer, ("third",), np.full((1, 2), 0.5), np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"source 1 tunes .*'1-4-3'.*, source 2 tunes.*corpus mer"):
        stack([small(), other])
    extra = ConfigurationSpace({**SPACE.choices, "rate": [0.1]})
    other = ErrorMatrix(extra, ("third",), np.full((1, 4), 0.5), np.ones((1, 4)))
    with pytest.raises(ValueError, match="source 2 tunes"):
        stack([small(), other])
    far = small(errors=[[0.5, 0.1, 0.8, 0.0], [0.0, 0.6, 0.7, 1.0]])
    with pytest.raises(ValueError, match=r"task 'first', configuration .*'1-4-3'.* \[0\.2 0\.8\]"):
        stack([small(), far])
