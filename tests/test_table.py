"""Corpus files as they stand; what a matrix makes of them is tested with the matrix."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from optuna_peppp.matrix import ErrorMatrix
from optuna_peppp.space import ConfigurationSpace
from optuna_peppp.table import CorpusTable

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
