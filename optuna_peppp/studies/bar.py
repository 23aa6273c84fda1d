"""The progress of trainings on a terminal: a bar of epochs, with lines above it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

from tqdm import tqdm

from optuna_peppp.sizes import format_size
from optuna_peppp.text import printable

_FORMAT: Final = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} epochs, {remaining} left"


class EpochBar:
    """A bar of the epochs of several trainings, on standard error where that is a terminal.

    The first epoch compiles the training step, once for all of them: it is named so, and left out
    of the estimate of the time that remains.
    """

    def __init__(self, bar: tqdm[Any]) -> None:
        self._bar = bar

    @classmethod
    @contextmanager
    def of(cls, epochs: int) -> Iterator[Self]:
        """A bar of so many epochs, shown within the block."""
        with tqdm(total=epochs, leave=False, smoothing=0, bar_format=_FORMAT, disable=None) as bar:
            yield cls(bar)

    def expect(self, epochs: int) -> None:
        """So many epochs remain."""
        self._bar.total = self._bar.n + epochs

    def begin(self, name: str) -> None:
        """A training begins."""
        compiling = "" if self._bar.n else " (compiling, once)"
        self._bar.set_description(f"{name}{compiling}")

    def epoch(self, _: int) -> None:
        """An epoch is done, of whatever number in its training."""
        self._bar.update()
        if self._bar.n == 1:
            self._bar.initial, self._bar.start_t = 1, time.time()
            self._bar.set_description(self._bar.desc.split(" (compiling")[0])


def say(line: str) -> None:
    """Writes a line above the bar, on standard error."""
    tqdm.write(line, file=sys.stderr)


def say_of(name: str, memory: float, outcome: str) -> None:
    """Tells what came of a training.

    Args:
        name: Its configuration.
        memory: Bytes.
        outcome: Its error, or why there is none.
    """
    say(f"  {name:<24}{format_size(memory):>10}   {outcome}")


def in_a_line(problem: Exception) -> str:
    """Why a training failed: the kind of the exception and the first line of its message."""
    text = str(problem).strip()
    first = text.splitlines()[0] if text else ""
    kind = type(problem).__name__
    return printable(f"{kind}: {first}") if first else kind
