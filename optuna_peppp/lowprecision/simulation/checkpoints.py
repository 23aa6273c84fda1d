"""Parts of a pass that ``torch.utils.checkpoint`` computes again in the backward pass.

By then the pass is over: its weights are no longer in the network, and no hook rounds outputs.
What a checkpoint keeps for its recomputation is therefore wrapped while a pass runs, so that it
takes up the pass where it stood: with the same rounded weights, the same randomness and the same
numbers of sites. Checkpoints have no hook for this, so two names of their module stand for
others meanwhile; those do nothing of their own in a thread that runs no such pass.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from optuna_peppp.lowprecision.compatibility import checkpoint_classes, set_checkpoint_classes

Function = Callable[..., Any]
Bookmark = Callable[[], Callable[[Function], Function]]
"""Asked where a checkpoint begins; its answer makes functions that go on from there."""


@contextmanager
def resumed_by(bookmark: Bookmark) -> Iterator[None]:
    """Within this block, checkpoints of this thread resume the pass that runs."""
    token = _BOOKMARK.set(bookmark)
    try:
        with _WRAPPING:
            yield
    finally:
        _BOOKMARK.reset(token)


_BOOKMARK: Final[ContextVar[Bookmark | None]] = ContextVar("bookmark", default=None)


class _Wrapping:
    """Wraps what checkpoints keep, while a pass runs in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._passes = 0
        self._own: tuple[Any, Any] = (None, None)

    def __enter__(self) -> None:
        with self._lock:
            self._passes += 1
            if self._passes == 1:
                self._own = frame, function = checkpoint_classes()
                set_checkpoint_classes(_frame_of(frame), _function_of(function))

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._passes -= 1
            if self._passes == 0:
                set_checkpoint_classes(*self._own)


_WRAPPING: Final = _Wrapping()


def _frame_of(original: Any) -> Function:
    """Of a checkpoint that is not reentrant: what it keeps runs in the backward pass only."""

    def frame(recompute: Function, *settings: Any, **named: Any) -> Any:
        bookmark = _BOOKMARK.get()
        if bookmark is not None:
            recompute = bookmark()(recompute)
        return original(recompute, *settings, **named)

    return frame


def _function_of(original: Any) -> type:
    """Of a reentrant checkpoint: what it keeps runs in the forward pass, too, and first."""

    class CheckpointFunction:
        @staticmethod
        def apply(function: Function, *arguments: Any) -> Any:
            bookmark = _BOOKMARK.get()
            if bookmark is not None:
                function = _first_then(function, bookmark()(function))
            return original.apply(function, *arguments)

    return CheckpointFunction


def _first_then(first: Function, then: Function) -> Function:
    calls = iter((first,))
    return lambda *arguments: next(calls, then)(*arguments)
