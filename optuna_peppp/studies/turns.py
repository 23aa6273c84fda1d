"""Workers that tune one study together: as many completed trials as are wanted, and no more.

A running trial is somebody's turn. Storages number trials in one step, so that a worker adds its
trial and reads all trials again: the turns with the lowest numbers count, and whoever finds that
those suffice steps back before anything is trained. Turns of the dead count no more
(:mod:`optuna_peppp.studies.life`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from optuna_peppp.studies.life import Watch, alive
from optuna_peppp.studies.patience import Pace, impatient
from optuna_peppp.studies.trials import (
    INTERRUPTED,
    configuration_of,
    identifier,
    read_trials,
    storage_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import optuna
    from optuna.trial import FrozenTrial

    from optuna_peppp.configurations.space import ConfigurationSpace, Value

FAILURE: Final = "failure"
"""Trial attribute for people: why a training failed."""


class Turns:
    """The turns of one worker.

    Args:
        study: The study.
        space: What it tunes.
        feasible: Shape (d,), the configurations that may be measured, each once.
        wanted: Completed trials of the study in all.
        pace: How long is waited, for what.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: ConfigurationSpace,
        feasible: NDArray[np.bool_],
        wanted: int,
        pace: Pace,
    ) -> None:
        self._study = study
        self._storage = storage_of(study)
        self._space = space
        self._feasible = set(np.flatnonzero(feasible).tolist())
        self._wanted = wanted
        self._pace = pace
        self._watch = Watch(self._storage, pace)

    def missing(self) -> int:
        """How many trials are still to be completed, by whomever."""
        return self._missing(read_trials(self._study))

    def next(self, wait: Callable[[int], None]) -> optuna.Trial | None:
        """Our next trial, once it is our turn.

        Args:
            wait: Told of how many other workers' trials are waited for, when that begins.

        Returns:
            A running trial, or None when all that is wanted is complete.
        """
        told = False
        while True:
            trials = read_trials(self._study)
            running = self._living(trials)
            missing = self._missing(trials)
            if missing <= 0:
                return None
            if len(running) < missing:
                trial = self._study.ask()
                if self._is_ours(trial.number):
                    return trial
                self._stop(trial)
            elif not told:
                wait(len(running))
                told = True
            self._pace.sleep(self._pace.poll)

    @contextmanager
    def taken(self, trial: optuna.Trial) -> Iterator[None]:
        """Shows that we live while this block runs; what interrupts it frees the trial.

        A training that fails is none of this block's business: it is told, as a result is.
        """
        try:
            with alive(self._storage, identifier(trial), self._pace):
                yield
        except BaseException:
            self._stop(trial)
            raise

    def suggest(self, trial: optuna.Trial) -> dict[str, Value] | None:
        """The configuration that a trial is to measure.

        Returns:
            Its choices; None where another worker took us for dead before.
        """
        try:
            return self._space.suggest(trial)
        except UpdateFinishedTrialError:
            return None

    def complete(
        self, trial: optuna.Trial, values: list[float], attributes: Mapping[str, object]
    ) -> bool:
        """Tells what was measured.

        Returns:
            Whether it counts: another worker may have taken us for dead.
        """
        try:
            for name, value in attributes.items():
                trial.set_user_attr(name, value)
            told = self._study.tell(trial, values, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return False
        return told.state == TrialState.COMPLETE

    def fail(self, trial: optuna.Trial, reason: str) -> None:
        """Tells that a training failed, and why."""
        with suppress(UpdateFinishedTrialError):
            trial.set_user_attr(FAILURE, reason)
            self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

    def _missing(self, trials: list[FrozenTrial]) -> int:
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        measured = {configuration_of(trial, self._space) for trial in complete}
        return min(self._wanted - len(complete), len(self._feasible - measured))

    def _living(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """The running trials; those of the dead are failed."""
        return self._watch.living(t for t in trials if t.state == TrialState.RUNNING)

    def _is_ours(self, number: int) -> bool:
        """Whether a trial that we added is still wanted beside those added before."""
        trials = read_trials(self._study)
        before = [trial for trial in self._living(trials) if trial.number < number]
        return len(before) < self._missing(trials)

    def _stop(self, trial: optuna.Trial) -> None:
        """Frees a trial of ours; the storage, asked once, may be why we stop."""
        storage = impatient(self._storage)
        with suppress(Exception):
            storage.set_trial_system_attr(identifier(trial), INTERRUPTED, True)
            storage.set_trial_state_values(identifier(trial), TrialState.FAIL)
