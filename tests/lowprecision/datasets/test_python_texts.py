from __future__ import annotations

import zlib

import pytest

from optuna_peppp.configurations.data import PYTHON_TEXTS
from optuna_peppp.lowprecision.datasets import python_texts
from optuna_peppp.lowprecision.datasets.python_texts import LONGEST, PIECE, read_python


@pytest.mark.parametrize("name", PYTHON_TEXTS)
def test_every_text_is_long_enough_and_has_more_to_it_than_repetition(name: str) -> None:
    try:
        text = read_python(name)
    except FileNotFoundError as problem:
        pytest.skip(str(problem))
    assert len(text) == LONGEST
    assert 1_000 < len(zlib.compress(text)) < len(text) / 2


def test_names_are_those_that_are_read() -> None:
    assert tuple(python_texts._TEXTS) == PYTHON_TEXTS


def test_pieces_are_a_sample_in_an_order_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [bytes([number]) * (2 * PIECE + 1) for number in range(60)]
    monkeypatch.setitem(python_texts._TEXTS, "topics", lambda: iter(files))
    text = read_python("topics")
    monkeypatch.setitem(python_texts._TEXTS, "topics", lambda: iter(files[::-1]))
    assert read_python("topics") == text
    assert len(text) == LONGEST
    kinds = list(dict.fromkeys(text))
    assert kinds != sorted(kinds)
    assert len(kinds) > 10


def test_an_installation_without_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(python_texts._TEXTS, "headers", lambda: iter(()))
    with pytest.raises(FileNotFoundError, match=r"python:headers: .* choose another text"):
        read_python("headers")


def test_what_tells_of_a_machine_is_left_out() -> None:
    assert not any(b"build_time_vars" in text[:300] for text in python_texts._sources())
