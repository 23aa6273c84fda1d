from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optuna_peppp.text import printable, quoted


@given(st.text(st.characters()))
def test_what_is_printed_can_be_printed_and_is_what_repr_writes(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
    if text.isprintable():
        assert shown == text
    if not set(text) & set("\\'\""):
        assert f"'{shown}'" == repr(text)


def test_line_ends_stay_where_they_are_ours() -> None:
    assert printable("a\n\x1b[2Jb\n", keep="\n") == "a\n\\x1b[2Jb\n"
    assert printable("a\n\x1b[2Jb\n") == "a\\n\\x1b[2Jb\\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("cats", "'cats'"),
        ("x" * 60, repr("x" * 60)),
        ("x" * 61, repr("x" * 60)[:-1] + "…'"),
        ('"' * 5000, "'" + '"' * 60 + "…'"),
        (b"y" * 5000, "b'" + "y" * 60 + "…'"),
        ("\x1b[2J", "'\\x1b[2J'"),
        (None, "None"),
        (10**5000, "a value of type int"),
        (list(range(1000)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1…"),
    ],
    ids=lambda value: str(value)[:10] if isinstance(value, str) else type(value).__name__,
)
def test_quotes_are_short(value: Any, shown: str) -> None:
    assert quoted(value)[: len(shown)] == shown
    assert len(quoted(value)) <= 122
