"""Tuning the precision of a named experiment, in a study that explains itself and resumes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import optuna
from numpy.typing import NDArray

from optuna_peppp.choices import Strategy
from optuna_peppp.configurations.cost import Cost
from optuna_peppp.configurations.hardware import RECIPE_NAMES
from optuna_peppp.configurations.names import TUNABLE
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.prediction import Prediction
from optuna_peppp.sizes import parse_size
from optuna_peppp.studies.bar import EpochBar, in_a_line, say, say_of
from optuna_peppp.studies.baseline import Baseline
from optuna_peppp.studies.credentials import shown
from optuna_peppp.studies.memo import Memo, Source
from optuna_peppp.studies.patience import Pace
from optuna_peppp.studies.results import predict
from optuna_peppp.studies.sampler import PEPPPSampler
from optuna_peppp.studies.settings import UNTOLD, check_settings
from optuna_peppp.studies.storage import experimental, open_storage
from optuna_peppp.studies.turns import Turns
from optuna_peppp.text import printable

if TYPE_CHECKING:
    from optuna_peppp.lowprecision import Experiment

_ATTRIBUTE: Final = "optuna_peppp"
"""Study attribute with what is needed to go on (:class:`Memo`)."""

GIVE_UP_AFTER: Final = 3
"""Trainings that fail one after another, whatever the configuration: it is not theirs to mend."""


class TrainingsFailed(RuntimeError):  # noqa: N818 (it tells what happened)
    """Several trainings failed one after another; the message names the last reason."""


@dataclass(frozen=True, slots=True, eq=False)
class Tuning:
    """A study of one experiment, and the meta-model that guides it.

    Attributes:
        study: The Optuna study; its values are (error, memory in bytes).
        meta: The meta-model of past tasks.
        memory: (d,) bytes, the memory of every configuration of ``meta.space``.
        pace: How long is waited for the storage and for other workers.
        classes: (d,), which configurations are one training; None where no two are.
    """

    study: optuna.Study
    meta: MetaModel
    memory: NDArray[np.float64]
    pace: Pace
    classes: NDArray[np.intp] | None = None

    @classmethod
    def start(
        cls,
        experiment: Experiment,
        *,
        corpus: str | None = None,
        rank: int | None = None,
        meta: str | None = None,
        space: str | None = None,
        storage: str | None = None,
        study_name: str = "tune",
        pace: Pace | None = None,
    ) -> Self:
        """Creates the study of an experiment, or takes up the stored one.

        Args:
            experiment: The network, the data set and the settings of its trainings.
            corpus: Past tasks: the name of a corpus that ships, or a CSV file; by default
                ``DEFAULT_CORPUS``.
            rank: Rank of the meta-model that is fitted to them.
            meta: A file of :meth:`MetaModel.save`, instead of corpus and rank.
            space: The configurations, as
                :func:`~optuna_peppp.configurations.named_spaces.named_space` reads them, instead of
                past tasks: then nothing is learned from.
            storage: As for :func:`~optuna_peppp.studies.storage.open_storage`, or None to keep the
                study in memory.
            study_name: Name of the study.
            pace: How long is waited, for what; by default :class:`Pace`.

        Raises:
            ValueError: The past tasks or the storage cannot be read, they tune what the
                experiment does not know, or the stored study is of another experiment or of
                other configurations.
            StorageError: The storage fails, for longer than is waited.

        Warns:
            UserWarning: What the study learned from has changed since.
        """
        from optuna_peppp.lowprecision.training.same import classes_of

        source = Source.named(corpus, rank, meta, space)
        model, checksum = source.learn()
        unknown = {*model.space.names} - {*RECIPE_NAMES, *TUNABLE}
        if unknown:
            raise ValueError(
                f"{source} tunes {', '.join(sorted(unknown))}, which a named experiment "
                "cannot set; use PEPPPSampler with an objective of your own"
            )
        experiment.check(model.space)
        memory = experiment.memory(model.space)
        settings = experiment.settings()
        pace = pace or Pace()
        study = optuna.create_study(
            storage=None if storage is None else open_storage(storage, create=True, pace=pace),
            study_name=study_name,
            directions=_DIRECTIONS,
            load_if_exists=True,
        )
        named = _named(study_name, storage)
        if _ATTRIBUTE in study.user_attrs:
            before = Memo.parse(study.user_attrs[_ATTRIBUTE], named)
            # What an older version did not store is what it did without being told.
            told = {**settings, **UNTOLD, **before.experiment}
            check_settings(named, told, settings, "--study-name")
            before.check_space(model.space, source, named)
            if source == before.source:
                _warn_of_changes(before, checksum, named)
        elif study.get_trials(deepcopy=False) or study.directions != _DIRECTIONS:
            raise ValueError(f"{named} was not made by `tune`; choose another --study-name")
        choices, classes = tuple(model.space.choices.items()), classes_of(experiment, model.space)
        memo = Memo(settings, source, memory, choices, checksum, classes)
        study.set_user_attr(_ATTRIBUTE, memo.stored())
        with experimental():
            study.set_metric_names(["error", "memory"])
        return cls(study, model, memory, pace, classes)

    @classmethod
    def load(cls, storage: str, study_name: str = "tune") -> Self:
        """Takes up a stored study to look at it.

        Raises:
            ValueError: There is no such storage or study, `tune` did not make it, or what it
                learned from is gone or has other configurations now.
            StorageError: The storage fails.

        Warns:
            UserWarning: What it learned from has changed since.
        """
        pace = Pace()
        opened = open_storage(storage, pace=pace)
        named = _named(study_name, storage)
        try:
            study = optuna.load_study(storage=opened, study_name=study_name)
        except KeyError:
            raise ValueError(f"there is no {named}") from None
        stored = study.user_attrs.get(_ATTRIBUTE)
        if stored is None or study.directions != _DIRECTIONS:
            raise ValueError(f"{named} was not made by `tune`")
        memo = Memo.parse(stored, named)
        model, checksum = memo.source.learn()
        memo.check_space(model.space, memo.source, named)
        _warn_of_changes(memo, checksum, named)
        return cls(study, model, memo.memory, pace, memo.classes)

    def run(
        self,
        experiment: Experiment,
        trials: int,
        *,
        strategy: Strategy,
        measurement_cap: str | float | None = None,
        seed: int | None = None,
        baseline: bool = False,
    ) -> None:
        """Measures until the study holds so many completed trials, showing progress.

        Other workers on the same study share the work: together they complete no more than
        that, and each returns when all of it is done. A configuration whose training fails, as
        when memory runs out, is recorded as failed with the reason, and others are measured.

        Args:
            experiment: The experiment the study was started with.
            trials: Completed trials in all, those of earlier runs and other workers included;
                every configuration is measured once at most.
            strategy: As for :class:`PEPPPSampler`.
            measurement_cap: As for :class:`PEPPPSampler`.
            seed: As for :class:`PEPPPSampler`.
            baseline: Whether to train in float32 at last, unless the study knows already what
                comes of it.

        Raises:
            ValueError: As :class:`PEPPPSampler`; a training refuses its arguments.
            StorageError: The storage fails, for longer than is waited.
            TrainingsFailed: ``GIVE_UP_AFTER`` trainings failed one after another.
            KeyboardInterrupt: Ctrl-C, once what was running is free for others.
        """
        cost = Cost(self.memory)
        if measurement_cap is not None and "promotion" in self.meta.space.names:
            most = [usage.upper_bound for usage in experiment.usages(self.meta.space)]
            cost = Cost(self.memory, most=most)
        self.study.sampler = PEPPPSampler(
            self.meta,
            cost,
            strategy=strategy,
            measurement_cap=measurement_cap,
            classes=self.classes,
            seed=seed,
        )
        cap = np.inf if measurement_cap is None else parse_size(measurement_cap)
        wanted = cost.upper_bound <= cap
        if self.classes is not None:  # of one training, one configuration
            wanted &= self.classes == np.arange(len(wanted))
        turns = Turns(self.study, self.meta.space, wanted, trials, self.pace)
        failed, last = 0, int(baseline and self.baseline is None)
        trainings = max(0, turns.missing()) + last
        if not trainings:
            return
        with EpochBar.of(trainings * experiment.epochs) as bar:
            while (trial := turns.next(_say_who_is_waited_for)) is not None:
                bar.expect((turns.missing() + last) * experiment.epochs)
                reason = self._measure(experiment, turns, trial, bar)
                failed = 0 if reason is None else failed + 1
                if failed == GIVE_UP_AFTER:
                    raise TrainingsFailed(
                        f"{failed} trainings failed one after another, the last with: {reason}"
                    )
            if last and self.baseline is None:  # others may have measured it meanwhile
                Baseline.measure(experiment, self.study, bar)

    @property
    def baseline(self) -> Baseline | None:
        """What the study's experiment reaches in float32, None where it was not measured."""
        return Baseline.of(self.study)

    def settings(self) -> dict[str, Any]:
        """What all its measurements share, as of :meth:`Experiment.settings`."""
        stored = self.study.user_attrs[_ATTRIBUTE]
        return Memo.parse(stored, f"study {self.study.study_name!r}").experiment

    def predict(self) -> Prediction:
        """What the study's measurements tell about every configuration."""
        return predict(self.study, self.meta, self.memory, classes=self.classes)

    def _measure(
        self, experiment: Experiment, turns: Turns, trial: optuna.Trial, bar: EpochBar
    ) -> str | None:
        """Makes a trial.

        Returns:
            Why its training failed, or None.
        """
        with turns.taken(trial):
            params = turns.suggest(trial)
            if params is None:
                return None
            memory = float(self.memory[self.meta.space.index(params)])
            name = printable(" / ".join(map(str, params.values())))
            bar.begin(name)
            try:
                result = experiment.measure(params, bar.epoch)
            except (ValueError, OSError):
                raise  # what the user can mend, for all configurations
            except Exception as problem:
                reason = in_a_line(problem)
                turns.fail(trial, reason)
                say_of(name, memory, f"failed: {reason}")
                return reason
            diverged = "   (diverged)" if result.diverged else ""
            say_of(name, memory, f"error {result.error:.4f}{diverged}")
            counts = turns.complete(trial, [result.error, memory], {"diverged": result.diverged})
        if not counts:
            say(f"  {name:<24}does not count: another worker took this one for dead")
        return None


_DIRECTIONS: Final = [optuna.study.StudyDirection.MINIMIZE] * 2


def _named(study_name: str, storage: str | None) -> str:
    """A study in messages."""
    return f"study {study_name!r} in {shown(storage) if storage else 'memory'}"


def _warn_of_changes(memo: Memo, checksum: str, named: str) -> None:
    if memo.checksum not in (None, checksum):
        warnings.warn(
            f"{memo.source} holds other measurements than when {named} learned from it",
            stacklevel=3,
        )


def _say_who_is_waited_for(number: int) -> None:
    say(f"Waiting for {number} of other workers, a minute should they be dead.")
