"""CSV as it comes: its lines, its encodings, and what is wrong with it and where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from optuna_peppp.corpora.csvfile import Line, check_text, read_lines, write_lines


def read(folder: Path, content: str | bytes) -> list[Line]:
    path = folder / "a.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_lines(path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines_end_as_on_any_system(tmp_path: Path, end: str, mark: str) -> None:
    text = mark + end.join(["a,b", "", " 1 ,\t2", '"x', 'y",3', " , ", "4,5"])
    expected = [(1, ["a", "b"]), (3, ["1", "2"]), (4, [f"x{end}y", "3"]), (7, ["4", "5"])]
    assert [tuple(line) for line in read(tmp_path, text)] == expected


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    for content in ("", "\n\n", "\ufeff", " \r\n,,\n"):
        assert read(tmp_path, content) == []


ROWS = "a,b\n" + "1,2\n" * 37


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(
    ("before", "after", "line", "problem"),
    [
        (ROWS, b"3,\xff\n", 39, "not text in UTF-8 (byte 0xff)"),
        (ROWS, b"1,2\n3,\xe9t\xe9\n", 40, "not text in UTF-8 (byte 0xe9)"),
        ("", b"\x80", 1, "not text in UTF-8 (byte 0x80)"),
        (ROWS + "ä,", b"\xc3", 39, "not text in UTF-8 (byte 0xc3)"),
        (ROWS, b"3,\x00\n", 39, "not text (a NUL byte)"),
        (ROWS, b'"3"x,4\n5,6\n', 39, "not CSV (',' expected after '\"')"),
        (ROWS, b'3,"open\n' + b"4,5\n" * 20, 39, "not CSV: the quote that opens here is never"),
        (ROWS, b'3,"closed\n"\n5,"open""\n6,7', 41, "not CSV: the quote that opens here is never"),
        (ROWS, b'"a\nb","open\n' + b"4,5\n" * 60_000, 40, "not CSV: the quote that opens here"),
        (ROWS, b"x" * 140_000 + b"\n", 39, "not CSV (field larger than field limit (131072))"),
        (ROWS, b'"a\nb"c,4\n', 39, "not CSV (',' expected after '\"', in line 40)"),
    ],
)
def test_what_is_no_csv_is_refused_with_its_line(
    tmp_path: Path, end: str, mark: str, before: str, after: bytes, line: int, problem: str
) -> None:
    content = (mark + before).encode() + after
    with pytest.raises(ValueError, match=r"a\.csv, line") as caught:
        read(tmp_path, content.replace(b"\n", end.encode()))
    assert str(caught.value).startswith(f"{tmp_path / 'a.csv'}, line {line}: {problem}")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_wide_encodings_are_named(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(ValueError, match=f"a.csv is text in {encoding.upper()}; save it as CSV in"):
        read(tmp_path, ROWS.encode(encoding))
    for order in ("-le", "-be"):
        with pytest.raises(ValueError, match=r"a\.csv, line 1: not text"):
            read(tmp_path, ROWS.encode(encoding + order))


GOOD = ["cats", "a, b", 'said "so"', "-", "-1.5", "-1e5", "1-4-3", "a=b", "a@b", "Größe", "猫", "="]


@pytest.mark.parametrize("text", GOOD)
def test_text_is_written_and_read_back(tmp_path: Path, text: str) -> None:
    check_text("task", text)
    write_lines(tmp_path / "a.csv", ["x", "y"], [[text, 1]])
    assert read_lines(tmp_path / "a.csv") == [Line(1, ["x", "y"]), Line(2, [text, "1"])]


FORMULAS = ["=1+1", "+1", "+cmd", "-cmd|' /C calc'!A0", "@SUM(A1)", "-2+3", "=", "--"]


@pytest.mark.parametrize("text", [text for text in FORMULAS if len(text) > 1])
def test_formulas_are_neither_read_nor_written(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=f"task must not begin with '[{text[0]}]', which spreads"):
        check_text("task", text)
    path = tmp_path / "a.csv"
    path.write_text("before")
    with pytest.raises(ValueError, match="note must not begin with"):
        write_lines(path, ["task", "note"], [["cats", "fine"], ["cats", text]])
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.csv"]  # noqa: PTH208


UNPRINTABLE = ["\x1b[2J", "a\nb", "a\rb", "\x00", "\x7f", "\x85", "\x9b2J", "\u202eabc", "\u2066"]
UNPRINTABLE += ["\ud800", "\u200b", "\ufeff", "\u2028", "a\u00a0b", "\x07", "\ue000", "\U000e0041"]


@pytest.mark.parametrize("text", [*UNPRINTABLE, " cats", "cats ", "\tcats", "cats\t"], ids=ascii)
def test_names_that_a_terminal_would_obey_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="task must ") as caught:
        check_text("task", text)
    assert str(caught.value).isprintable()
