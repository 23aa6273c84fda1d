"""What the fields of a corpus may hold, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.hardware import FORMAT_NAMES
from optuna_peppp.configurations.space import Value
from optuna_peppp.corpora.csvfile import check_text
from optuna_peppp.corpora.measurements import as_error
from optuna_peppp.numerals import parse_integer, parse_number, resembles_number
from optuna_peppp.text import quoted


def check_task(task: str, model: str) -> None:
    """Refuses names of a task and its network that no corpus may hold.

    Raises:
        ValueError: There is no task, or as :func:`check_text`; a network need not be told.
    """
    if not task:
        raise ValueError("task must be the name of a data set; got none")
    check_text("task", task)
    check_text("model", model)


def check_choice(name: str, text: str) -> None:
    """Refuses text that no tuned name may take as its value.

    Raises:
        ValueError: It is empty, spells a number in a way that not all programs read, or as
            :func:`check_text`.
    """
    if not text:
        raise ValueError(f"{name} must hold a choice; got none")
    if resembles_number(text):
        raise ValueError(
            f"{name} must hold numbers such as 10, 0.5 or 1e-3, or words that nobody takes for a "
            f"number; got {quoted(text)}"
        )
    check_text(name, text)


def distinct_values(texts: Iterable[str]) -> list[Value]:
    """The distinct values of a column.

    Numbers ascending, False before True, other text by first appearance.
    """
    distinct = list(dict.fromkeys(texts))
    if set(distinct) <= {"True", "False"}:
        return sorted(text == "True" for text in distinct)
    for kind in (parse_integer, parse_number):
        try:
            return sorted({kind(text) for text in distinct})
        except ValueError:
            continue
    return [*distinct]


def choice(text: str, choices: Sequence[Value]) -> Value:
    """The choice that ``text`` spells; a value that is no choice where it spells none."""
    return text if text in choices else distinct_values((text,))[0]


def spelling(name: str, text: str) -> str:
    """A choice as it is compared: checked, formats in their one spelling.

    Raises:
        ValueError: As :func:`check_choice`, or the field holds no format where there must be one.
    """
    if name in FORMAT_NAMES:
        return str(FloatFormat.parse(text))
    check_choice(name, text)
    return text


def parse_error(text: str) -> float:
    """Test error.

    Raises:
        ValueError: The field holds no number from 0 to 1.
    """
    error = _number("error", text)
    ratio = as_error(error)
    if ratio is None:
        raise ValueError(f"error must lie in [0, 1]; got {quoted(text)}")
    return ratio


def parse_memory(text: str) -> float:
    """Bytes; NaN, unknown, where the field is empty.

    Raises:
        ValueError: The field holds something else than a positive number.
    """
    if not text:
        return math.nan
    memory = _number("memory", text)
    if memory <= 0:
        raise ValueError(f"memory must be a positive number of bytes; got {quoted(text)}")
    return memory


def _number(name: str, text: str) -> float:
    try:
        return parse_number(text)
    except ValueError:
        raise ValueError(f"{name} must be a number; got {quoted(text)}") from None
