"""Signs of life: who measures shows them, and whose do not come any more is dead.

A worker that is killed leaves a running trial. Clocks of machines differ and not every storage has
heartbeats. So the living write a growing number on their trial, and whoever saw the same number
for ``Pace.dead_after`` seconds of its own clock fails the trial, which frees what it held. Should
its worker come back, it finds the trial finished and drops what it measured.

While a storage is out of sight nobody can show signs, so that clocks count from when it came back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from optuna_peppp.studies.failures import failures
from optuna_peppp.studies.patience import Contact, Pace, PatientStorage, impatient
from optuna_peppp.studies.trials import identifier

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

SIGN: Final = "peppp:alive"
"""Trial attribute: the sign of life, a number that grows."""


@contextmanager
def alive(storage: BaseStorage, trial: int, pace: Pace) -> Iterator[None]:
    """Shows signs of life on a running trial while this block runs.

    Args:
        storage: The storage.
        trial: Its identifier of the trial.
        pace: How often.
    """
    over = threading.Event()
    asked = impatient(storage)  # the end of the block waits for the last sign

    def show() -> None:
        sign = 0
        while not over.wait(pace.sign_every):
            sign += 1
            try:
                asked.set_trial_system_attr(trial, SIGN, sign)
            except UpdateFinishedTrialError:
                return  # we were taken for dead
            except failures():
                continue  # the next one may arrive

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def fail(storage: BaseStorage, trial: int) -> None:
    """Ends a trial without a result, unless it ended already."""
    with suppress(UpdateFinishedTrialError):  # others may see the same, or it came back
        storage.set_trial_state_values(trial, TrialState.FAIL)


class Watch:
    """What one worker has seen of the lives of others in a study.

    Args:
        storage: The storage of the study.
        pace: For how long it waits for a sign, by which clock.
    """

    def __init__(self, storage: BaseStorage, pace: Pace) -> None:
        self._storage = storage
        self._pace = pace
        self._contact = storage.contact if isinstance(storage, PatientStorage) else Contact(pace)
        self._seen: dict[int, tuple[int, float]] = {}

    def living(self, running: Iterable[FrozenTrial]) -> list[FrozenTrial]:
        """Those of the running trials, read just now, whose workers live; the others are failed."""
        living = []
        for trial in running:
            if self._is_dead(trial):
                fail(self._storage, identifier(trial))
            else:
                living.append(trial)
        return living

    def _is_dead(self, trial: FrozenTrial) -> bool:
        """Whether a running trial has shown the same sign of life for too long."""
        now = self._pace.clock()
        sign = trial.system_attrs.get(SIGN, 0)
        before, since = self._seen.get(trial.number, (None, now))
        if sign != before:
            self._seen[trial.number] = sign, now
            return False
        return now - max(since, self._contact.since) > self._pace.dead_after
