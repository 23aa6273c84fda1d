"""Corpus files as they stand; what a matrix makes of them is tested with the matrix."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.corpora.table import CorpusTable

SPACE = ConfigurationSpace({"format_a": ["1-3-1", "1-4-3"], "rate": [0.1, 0.01]})
HEADER = "task,format_a,rate,error,memory\n"


def read(folder: Path, name: str, text: str) -> CorpusTable:
    path = folder / name
    path.write_text(text)
    return CorpusTable.read(path)


def test_rows_keep_their_text_and_place(tmp_path: Path) -> None:
    table = read(tmp_path, "a.csv", HEADER + "fish,1-4-3,1e-1,0.50,\n\nfish,1-4-3,.1,0.25,7.0\n")
    assert table.columns == ["task", "format_a", "rate", "error", "memory"]
    assert table.names == ["format_a", "rate"]
    first, second = table.rows
    assert (first.path, first.line, second.line) == (tmp_path / "a.csv", 2, 4)
    assert (first.task, first.model, first.error) == ("fish", "", 0.5)
    assert math.isnan(first.memory)
    assert (second.memory, second.fields["memory"], second.fields["rate"]) == (7.0, "7.0", ".1")
    assert table.entries(SPACE) == {("fish", "", 2): [first, second]}


def test_formats_of_hardware_stand_in_the_order_of_the_space(tmp_path: Path) -> None:
    """Whatever a sample happened to measure first; what the space does not have stands behind."""
    offered = ConfigurationSpace.hardware()
    drawn = np.random.default_rng(0).permutation(len(offered))
    rows = [",".join(map(str, offered.params(int(index)).values())) for index in drawn]
    header = "task,activations,states,master,error,memory\n"
    text = header + "".join(f"fish,{row},0.5,1\n" for row in rows)
    assert read(tmp_path, "a.csv", text).space() == offered
    more = read(tmp_path, "b.csv", text + "fish,int5@32,float32,float32,0.5,1\n").space()
    assert more.choices["activations"] == (*offered.choices["activations"], "int5@32")


def test_repeats_that_disagree_wildly_are_refused(tmp_path: Path) -> None:
    rows = ["fish,1-4-3,0.1,0.4,1", "fish,1-4-3,0.01,1,1", "fish,1-4-3,1e-1,0.9,2"]
    near = read(tmp_path, "a.csv", HEADER + "\n".join(rows) + "\n")
    assert len(near.entries(SPACE)) == 2  # 0.5 apart is allowed
    far = read(tmp_path, "a.csv", HEADER + "\n".join([*rows, "fish,1-4-3,0.1,0.38,1"]) + "\n")
    with pytest.raises(ValueError, match="remove what is wrong, or tell them apart") as caught:
        far.entries(SPACE)
    path = tmp_path / "a.csv"
    assert str(caught.value).startswith(
        f"{path}, line 4: error 0.9 is too far from 0.38 in {path}, line 5, for repeats"
    )


def test_merging_unites_columns_and_keeps_equal_rows_once(tmp_path: Path) -> None:
    first = read(
        tmp_path,
        "first.csv",
        "task,format_a,rate,error,memory,seed\nfish,1-4-3,0.1,0.50,7,0\nfish,1-4-3,0.1,0.4,7,1\n",
    )
    second = read(
        tmp_path,
        "second.csv",
        "model,task,rate,format_a,memory,error,seconds,seed\n"
        ",fish,0.1,1-4-3,7,0.50,,0\nplain3,fish,0.01,1-3-1,,0.3,2.5,0\n",
    )
    merged = CorpusTable.merged([first, second])
    merged.write(tmp_path / "merged.csv")
    assert (tmp_path / "merged.csv").read_text() == (
        "task,model,format_a,rate,error,memory,seed,seconds\n"
        "fish,,1-4-3,0.1,0.50,7,0,\n"
        "fish,,1-4-3,0.1,0.4,7,1,\n"
        "fish,plain3,1-3-1,0.01,0.3,,0,2.5\n"
    )
    again = CorpusTable.read(tmp_path / "merged.csv")
    assert (again.columns, again.names) == (merged.columns, merged.names)
    assert np.nanmax(ErrorMatrix.from_table(merged).errors, axis=1).tolist() == [0.45, 0.3]


def test_merging_twice_changes_nothing(tmp_path: Path) -> None:
    table = read(tmp_path, "a.csv", HEADER + "fish,1-4-3,0.1,0.5,7\nfish,1-3-1,0.1,0.4,7\n")
    table.write(tmp_path / "once.csv")
    assert (tmp_path / "once.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()
    twice = CorpusTable.merged([table, CorpusTable.read(tmp_path / "once.csv")])
    assert twice.rows == table.rows


def test_merging_other_configuration_columns_is_refused(tmp_path: Path) -> None:
    first = read(tmp_path, "first.csv", HEADER + "fish,1-4-3,0.1,0.5,7\n")
    second = read(tmp_path, "second.csv", "task,format_a,error,memory\nfish,1-4-3,0.5,7\n")
    with pytest.raises(ValueError, match=r"first\.csv has format_a, rate, .*second\.csv has for"):
        CorpusTable.merged([first, second])


def test_a_failed_write_leaves_nothing_and_changes_nothing(tmp_path: Path) -> None:
    table = read(tmp_path, "a.csv", HEADER + "fish,1-4-3,0.1,0.5,7\n")
    broken = CorpusTable([*table.columns], table.names, [*table.rows, None])  # type: ignore[list-item]
    target = tmp_path / "b.csv"
    target.write_text("before")
    with pytest.raises(AttributeError):
        broken.write(target)
    assert target.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv"]


ROW = "fish,1-4-3,0.1,0.5,7\n"


@pytest.mark.parametrize("spelled", ["fish ", " fish", "\tfish\t", '" fish"', "\u00a0fish"])
def test_names_count_without_the_white_space_around_them(tmp_path: Path, spelled: str) -> None:
    text = "task,model,opt,error,memory,note\nfish,net,adam,0.5,7,x\n"
    other = text.splitlines()[1].replace("0.5", "0.25").replace("fish", spelled)
    other = other.replace("net", f"{spelled}").replace("adam", " adam ").replace("7", " 7 ")
    table = read(tmp_path, "a.csv", text + other + "\nfish,net,sgd,0.5,7,\n")
    assert {row.task for row in table.rows} == {"fish"}
    assert {row.model for row in table.rows} == {"net", "fish"}
    assert table.space().choices == {"opt": ("adam", "sgd")}
    assert table.rows[1].memory == 7


@pytest.mark.parametrize(
    "field", ["1_0", "\uff11\uff10", "0x1", "1e5_0", "nan", "infinity", "-inf", "+.5", "1e999"]
)
@pytest.mark.parametrize("column", ["rate", "error", "memory"])
def test_numbers_are_read_by_one_grammar(tmp_path: Path, column: str, field: str) -> None:
    values = {"rate": "0.1", "error": "0.5", "memory": "7"} | {column: field}
    with pytest.raises(ValueError, match=rf"a\.csv, line 3: {column} must .*; got ") as caught:
        read(tmp_path, "a.csv", f"{HEADER}{ROW}fish,1-3-1,{','.join(values.values())}\n")
    assert ascii(field)[1:-1] in ascii(str(caught.value))


def test_truth_values_are_read_as_such(tmp_path: Path) -> None:
    text = "task,nesterov,error,memory\nfish,True,0.5,7\nfish,False,0.25,7\n"
    table = read(tmp_path, "a.csv", text)
    assert table.space().choices == {"nesterov": (False, True)}
    matrix = ErrorMatrix.from_table(table)
    matrix.write_csv(tmp_path / "b.csv")
    assert ErrorMatrix.read_csv(tmp_path / "b.csv").space == matrix.space
    assert matrix.errors.tolist() == [[0.25, 0.5]]


def test_rounding_noise_is_no_error(tmp_path: Path) -> None:
    rows = "fish,1-4-3,0.1,-2e-16,7\nfish,1-3-1,0.1,1.0000000000000002,7\n"
    assert [row.error for row in read(tmp_path, "a.csv", HEADER + rows).rows] == [0, 1]


def test_spaces_around_numbers_do_not_matter(tmp_path: Path) -> None:
    table = read(tmp_path, "a.csv", HEADER + "fish, 1-4-3 , 1e-1 , 0.5 , 7e0 \n")
    assert table.entries(SPACE)["fish", "", 2][0].memory == 7


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (",1-4-3,0.1,0.5,7", "task must be the name of a data set; got none"),
        ("  ,1-4-3,0.1,0.5,7", "task must be the name of a data set; got none"),
        ("fish,1-4-3,,0.5,7", "rate must hold a choice; got none"),
        ("fish,1-4-3, ,0.5,7", "rate must hold a choice; got none"),
        ("=1+1,1-4-3,0.1,0.5,7", "task must not begin with '='"),
        ("fish,1-4-3,@SUM(A1),0.5,7", "rate must not begin with '@'"),
        ("fish,1-4-3,-adam,0.5,7", "rate must not begin with '-'"),
        ("a\x1b[2J,1-4-3,0.1,0.5,7", r"got 'a\\x1b\[2J'"),
        ("fish,1-4-3,a\u202eb,0.5,7", r"got 'a\\u202eb'"),
        ('"a\nb",1-4-3,0.1,0.5,7', r"got 'a\\nb'"),
        ("x" * 5000 + "\x07,1-4-3,0.1,0.5,7", "got 'x{60}…'"),
        ("fish,1-4-3" + "z" * 5000 + ",0.1,0.5,7", "got '1-4-3z{55}…'"),
        ("fish,1-4-" + "3" * 5000 + ",0.1,0.5,7", "format '1-4-3{56}…'"),
        ("fish,1-4-3,0.1," + "y" * 5000 + ",7", "got 'y{60}…'"),
        ("fish,1-4-3,0.1,0.5," + "-" * 5000, "got '-{60}…'"),
        ("fish,1-4-3,0.1,0.5," + "9" * 5000, "got '9{60}…'"),
        ("fish" + ",1" * 100_000, "expected 5 fields, as in the header; got 100001"),
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_fields_that_no_corpus_holds_are_refused_in_a_short_sentence(
    tmp_path: Path, row: str, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        read(tmp_path, "a.csv", HEADER + ROW + row + "\n")
    assert str(caught.value).startswith(f"{tmp_path / 'a.csv'}, line 3: ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < len(str(tmp_path)) + 250


@pytest.mark.parametrize("name", ["=x", "@x", "+x", "-x", "a\x1b[2J", "a\u202e", "\ufeffa"])
def test_columns_with_such_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="line 1: the name of column 2 must") as caught:
        read(tmp_path, "a.csv", f"task,{name},error,memory\nfish,1,0.5,7\n")
    assert str(caught.value).isprintable()


def test_further_columns_may_hold_anything_but_a_formula_that_is_written(tmp_path: Path) -> None:
    header = HEADER.replace("memory", "memory,note")
    fine = read(tmp_path, "a.csv", header + ROW.replace("7", '7,"two\nlines"'))
    fine.write(tmp_path / "b.csv")
    assert CorpusTable.read(tmp_path / "b.csv").rows[0].fields["note"] == "two\nlines"
    formula = read(tmp_path, "c.csv", header + ROW.replace("7", "7,=1+1"))
    with pytest.raises(ValueError, match="note must not begin with '='"):
        formula.write(tmp_path / "d.csv")
    assert not (tmp_path / "d.csv").exists()


def columns(count: int, values: int, rows: int) -> str:
    """A corpus with columns of so many values before ``memory``."""
    header = ",".join(["task", *(f"c{number}" for number in range(count)), "error,memory\n"])
    lines = (
        ",".join([f"t{row % 2}", *(str(row // 2 % values) for _ in range(count)), "0.5,1\n"])
        for row in range(rows)
    )
    return header + "".join(lines)


@pytest.mark.parametrize(
    ("count", "values", "rows", "problem"),
    [
        (2, 990, 1980, "make 980,100 configurations of 1,980 rows; move what is not tuned behind"),
        (64, 2, 8, r"make 10\^19 configurations of 8 rows"),
        (900, 500, 1000, r"make 10\^2429 configurations of 1,000 rows"),
        (14, 2, 8, "make 16,384 configurations of 8 rows"),
        (1001, 1, 3, "it has 1,001 columns before memory"),
        (100_000, 1, 3, "it has 100,000 columns before memory"),
    ],
)
def test_columns_that_are_no_choices_are_refused_at_once(
    tmp_path: Path, count: int, values: int, rows: int, problem: str
) -> None:
    (tmp_path / "a.csv").write_text(columns(count, values, rows))
    with pytest.raises(ValueError, match=problem) as caught:
        ErrorMatrix.read_csv(tmp_path / "a.csv")
    assert str(caught.value).startswith(f"{tmp_path / 'a.csv'}, line 1: ")


def test_sparse_corpora_are_read(tmp_path: Path) -> None:
    matrix = ErrorMatrix.from_table(read(tmp_path, "a.csv", columns(13, 2, 8)))
    assert matrix.errors.shape == (2, 8192)
    assert matrix.observed.sum() == 4


def test_tasks_that_are_no_tasks_are_refused_at_once(tmp_path: Path) -> None:
    rows = "".join(f"{row},{row % 500},0.5,1\n" for row in range(30_000))
    table = read(tmp_path, "a.csv", "task,x,error,memory\n" + rows)
    with pytest.raises(ValueError, match="its 30,000 tasks under 500 configurations are far more"):
        ErrorMatrix.from_table(table)
