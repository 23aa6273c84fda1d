"""Optuna's gRPC proxy of storages, asked with a deadline: its client waits for ever."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from optuna.storages import GrpcStorageProxy


class TimelyProxy(GrpcStorageProxy):
    """A proxy whose server has to answer in time.

    Args:
        host: Where the server runs.
        port: Where it listens.
        answers_within: Seconds within which it has to answer a question.
    """

    def __init__(self, *, host: str, port: int, answers_within: float = 60.0) -> None:
        self._answers_within = answers_within
        super().__init__(host=host, port=port)

    def _setup(self) -> None:
        super()._setup()
        timely: Any = _Timely(self._stub, self._answers_within)
        self._stub = self._cache.grpc_client = timely


class _Timely:
    """The calls of a gRPC stub with a deadline."""

    def __init__(self, stub: Any, seconds: float) -> None:
        self._stub = stub
        self._seconds = seconds

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(getattr(self._stub, name), timeout=self._seconds)
