"""CSV files with the line of every record, and without fields that a reader would misread."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Final, NamedTuple

from optuna_peppp.files import replacing
from optuna_peppp.numerals import is_number
from optuna_peppp.text import quoted

_WIDE: Final = {
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}
"""Other encodings and the bytes that such files begin with; UTF-32's begin like UTF-16's."""

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_CLOSED: Final = re.compile(r'"(?:[^"]|"")*+"')
"""A quoted field from its first quote to its last."""

_SWALLOWED: Final = ("unexpected end of data", "field larger than field limit")
"""What the reader says of a field that goes on and on, as one does whose quote is never closed."""

_FORMULA: Final = ("=", "+", "-", "@")
"""How text begins that spreadsheets compute instead of showing it."""


class Line(NamedTuple):
    """One record of a CSV file.

    Attributes:
        number: The line on which it begins, from 1.
        fields: Its text, without surrounding white space.
    """

    number: int
    fields: list[str]


def read_lines(path: Path) -> list[Line]:
    """The records of a CSV file in UTF-8, those that are empty left out.

    Lines end as on any system.

    Raises:
        ValueError: The file is no CSV, or in another encoding; the message names path and line.
        FileNotFoundError: There is no such file.
    """
    text = _decoded(path)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[Line] = []
    while True:
        begin = reader.line_num + 1
        try:
            fields = [field.strip() for field in next(reader)]
        except StopIteration:
            return lines
        except csv.Error as problem:
            swallowed = any(words in str(problem) for words in _SWALLOWED)
            opened = _never_closed(text, begin) if swallowed else 0
            with located(path, opened or begin):
                if opened:
                    raise ValueError("not CSV: the quote that opens here is never closed") from None
                further = f", in line {reader.line_num}" if reader.line_num > begin else ""
                raise ValueError(f"not CSV ({problem}{further})") from None
        if any(fields):
            lines.append(Line(begin, fields))


def write_lines(
    path: str | PathLike[str], header: Sequence[str], records: Iterable[Sequence[object]]
) -> None:
    """Writes a CSV file in UTF-8, which appears whole or not at all.

    Raises:
        ValueError: A field would be taken for a formula by a spreadsheet.
    """
    with (
        replacing(path) as temporary,
        temporary.open("x", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for record in records:
            for name, field in zip(header, record, strict=True):
                if isinstance(field, str):
                    _check_no_formula(name, field)
            writer.writerow(record)


def check_text(name: str, text: str) -> None:
    """Refuses text that a terminal would obey, a spreadsheet compute or a reader mistake.

    Args:
        name: What the text is, for the message.
        text: The field.

    Raises:
        ValueError: It holds characters that cannot be printed, begins as a formula does, or
            begins or ends with white space.
    """
    if not text.isprintable():
        raise ValueError(
            f"{name} must be of characters that can be printed; got {quoted(text)}. Rename it"
        )
    if text != text.strip():
        raise ValueError(f"{name} must not begin or end with a space; got {quoted(text)}")
    _check_no_formula(name, text)


@contextmanager
def located(path: str | PathLike[str], line: int) -> Iterator[None]:
    """Puts path and line in front of the message of a ``ValueError``."""
    try:
        yield
    except ValueError as problem:
        raise ValueError(f"{path}, line {line}: {problem}") from None


def _decoded(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark."""
    content = path.read_bytes()
    for encoding, marks in _WIDE.items():
        if content.startswith(marks):
            raise ValueError(f"{path} is text in {encoding}; save it as CSV in UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        # All before the first bad byte can be decoded.
        before, bad = problem.object[: problem.start], problem.object[problem.start]
        with located(path, _line_at(before.decode())):
            raise ValueError(
                f"not text in UTF-8 (byte 0x{bad:02x}); save the file as CSV in UTF-8"
            ) from None
    if (position := text.find("\0")) >= 0:
        with located(path, _line_at(text[:position])):
            raise ValueError("not text (a NUL byte); save the file as CSV in UTF-8")
    return text


def _line_at(before: str) -> int:
    """The line, from 1, on which text goes on."""
    return 1 + sum(1 for _ in _LINE_END.finditer(before))


def _never_closed(text: str, begin: int) -> int:
    """The line of the quote that opens the last field and is never closed, 0 where there is none.

    Args:
        text: All of the file.
        begin: The line of the record that could not be read.
    """
    ends = _LINE_END.finditer(text)
    position = 0
    for _ in range(begin - 1):
        position = next(ends).end()
    while (position := text.find('"', position)) >= 0:
        closed = _CLOSED.match(text, position)
        if closed is None:
            return _line_at(text[:position])
        position = closed.end()
    return 0


def _check_no_formula(name: str, text: str) -> None:
    if len(text) > 1 and text.startswith(_FORMULA) and not is_number(text):
        raise ValueError(
            f"{name} must not begin with {text[0]!r}, which spreadsheets take for a formula; got "
            f"{quoted(text)}. Rename it"
        )
