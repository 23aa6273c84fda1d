"""Texts that every installation of Python carries, so that anyone can measure on them again.

Each is cut into pieces of :data:`PIECE` bytes (a part of a file, of a table), which are put in the
order of their SHA-256 and joined up to :data:`LONGEST` bytes: a sample of the whole that depends on
Python's version only, whose end, to test on, is like its beginning.
"""

from __future__ import annotations

import ast
import calendar
import importlib
import sysconfig
import unicodedata
from collections.abc import Callable, Iterator
from hashlib import sha256
from html.entities import html5
from pathlib import Path
from types import CodeType
from typing import Final

PIECE: Final = 2048
"""Bytes that stay together."""

LONGEST: Final = 64 * 1024
"""Bytes of a text at most: an epoch of ``gpt`` is to take seconds."""

_CHARACTERS: Final = 0x3400
"""Code points before the first of the ideographs, whose names are numbers."""

_OF_MACHINE: Final = ("_sysconfigdata", "pyconfig")
"""How names of files begin that tell of a machine, not of Python."""


def read_python(name: str) -> bytes:
    """A text by name, one of ``PYTHON_TEXTS``.

    Raises:
        FileNotFoundError: This installation of Python lacks the files.
    """
    pieces = [
        text[start : start + PIECE]
        for text in _TEXTS[name]()
        for start in range(0, len(text), PIECE)
    ]
    if not pieces:
        raise FileNotFoundError(
            f"python:{name}: this installation of Python has no files of it; choose another text"
        )
    return b"".join(sorted(pieces, key=lambda piece: sha256(piece).digest()))[:LONGEST]


def _topics() -> Iterator[bytes]:
    """What ``help("topics")`` shows, English about the language."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    for name in sorted(topics):
        yield topics[name].encode()


def _sources() -> Iterator[bytes]:
    """Modules of the standard library that are one file each, programs in Python."""
    return _files(sysconfig.get_path("stdlib"), "*.py")


def _docstrings() -> Iterator[bytes]:
    """What these modules say of their functions and classes, English about programs."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for source in _sources():
        said = (ast.get_docstring(n) for n in ast.walk(ast.parse(source)) if isinstance(n, kinds))
        yield "\n\n".join(text for text in said if text).encode()


def _headers() -> Iterator[bytes]:
    """Headers of Python's interface for C, declarations in C."""
    for pattern in ("*.h", "cpython/*.h", "internal/*.h"):
        yield from _files(sysconfig.get_path("include"), pattern)


def _bytecode() -> Iterator[bytes]:
    """What the standard library's modules are compiled to: instructions of two bytes."""
    for source in _sources():
        yield b"".join(_instructions(compile(source, "", "exec", dont_inherit=True)))


def _names() -> Iterator[bytes]:
    """Names of characters of Unicode, each with its number: a table of words."""
    lines = (f"{c:04X} {unicodedata.name(chr(c), '')}\n" for c in range(_CHARACTERS))
    yield "".join(line for line in lines if len(line) > 6).encode()


def _characters() -> Iterator[bytes]:
    """Properties of characters of Unicode: a table of codes."""
    kinds = (
        unicodedata.category,
        unicodedata.bidirectional,
        unicodedata.east_asian_width,
        unicodedata.combining,
        unicodedata.decomposition,
    )
    lines = (";".join(map(str, (kind(chr(c)) for kind in kinds))) for c in range(_CHARACTERS))
    yield "".join(f"{c:04X};{line}\n" for c, line in enumerate(lines)).encode()


def _entities() -> Iterator[bytes]:
    """Entities of HTML and what they stand for, as a table of its source."""
    rows = []
    for name, text in sorted(html5.items()):
        codes = " ".join(f"U+{ord(character):05X}" for character in text)
        rows.append(f"<tr><td>&amp;{name}</td><td>{codes}</td><td>{text}</td></tr>\n")
    yield "".join(rows).encode()


def _codecs() -> Iterator[bytes]:
    """Tables of the encodings of the world, with the names of their characters."""
    return _files(Path(sysconfig.get_path("stdlib")) / "encodings", "cp*.py")


def _calendars() -> Iterator[bytes]:
    """Calendars of the years 1900 to 2099: figures in columns."""
    for year in range(1900, 2100):
        yield calendar.TextCalendar(calendar.MONDAY).formatyear(year).encode()


def _files(folder: str | Path, pattern: str) -> Iterator[bytes]:
    for path in sorted(Path(folder).glob(pattern)):
        if not path.name.startswith(_OF_MACHINE):
            yield path.read_bytes()


def _instructions(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _instructions(constant)


_TEXTS: Final[dict[str, Callable[[], Iterator[bytes]]]] = {
    "topics": _topics,
    "sources": _sources,
    "docstrings": _docstrings,
    "headers": _headers,
    "bytecode": _bytecode,
    "names": _names,
    "characters": _characters,
    "entities": _entities,
    "codecs": _codecs,
    "calendars": _calendars,
}
"""How each is read."""
