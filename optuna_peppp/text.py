"""Text in messages: from files and storages as it is, but for what a terminal would obey."""

from __future__ import annotations

import math
from typing import Final

_SHOWN: Final = 60
"""Characters of a field that a message quotes."""


def printable(text: str, keep: str = "") -> str:
    r"""The text with what cannot be printed written as :func:`repr` writes it.

    Control characters, escape sequences, marks that turn the direction of writing, surrogates
    and line ends of a name would otherwise be obeyed by the terminal that shows it.

    Args:
        text: Text of any origin.
        keep: Characters that stay, such as the line ends of several lines.

    >>> printable("cats\x1b[2J")
    'cats\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in keep else repr(letter)[1:-1] for letter in text
    )


def quoted(value: object) -> str:
    """A value as :func:`repr` writes it, shortened to what a message has room for.

    >>> quoted("x" * 5000)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…'"
    """
    if isinstance(value, str | bytes) and len(value) > _SHOWN:
        shown = repr(value[:_SHOWN])
        return f"{shown[:-1]}…{shown[-1]}"
    try:
        shown = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return f"a value of type {type(value).__name__}"
    return shown if len(shown) <= 2 * _SHOWN else f"{shown[:_SHOWN]}…"


def rounded_count(size: int) -> str:
    """A number that may have too many digits to be read, or even to be written.

    >>> rounded_count(12345), rounded_count(10**20)
    ('12,345', 'about 10^20')
    """
    if size < 10**15:
        return f"{size:,}"
    return f"about 10^{math.log10(size):.0f}"
