"""The commands whose workers share a storage, and what they have to leave in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from optuna.trial import TrialState

from tests.servers.servers import Place
from tests.servers.workers import SPACE, Worker, trials_in

DEAD_AFTER: Final = 3.0
"""Seconds, where a worker is killed."""


@dataclass(frozen=True, slots=True)
class Command:
    """``collect`` or ``tune``, in several processes on one storage.

    Attributes:
        place: The storage.
        start: Starts a worker that does the same as the others; with further options.
        count: How many configurations they measure together.
        planned: Which; None where that is theirs to choose.
    """

    place: Place
    start: Callable[..., Worker]
    count: int
    planned: frozenset[int] | None = None

    def check(self, workers: list[Worker], codes: list[int], *, repeated: int = 0) -> None:
        """How the workers end, and that everything is measured once.

        Args:
            workers: All of them.
            codes: Their exit codes.
            repeated: How many trainings may have been lost.
        """
        ended = [worker.wait() for worker in workers]
        said = "\n".join(worker.said() for worker in workers)
        assert ended == codes, said
        assert "Traceback" not in said
        complete = trials_in(self.place.url, TrialState.COMPLETE)
        made = Counter(SPACE.index(trial.params) for trial in complete)
        assert made.total() == len(made) == self.count, said
        assert self.planned is None or made.keys() == self.planned
        assert not trials_in(self.place.url, TrialState.RUNNING, TrialState.WAITING)
        trainings = sum(worker.trainings() for worker in workers)
        assert self.count <= trainings <= self.count + repeated, said
