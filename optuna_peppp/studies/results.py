"""Optuna studies as measurements: what a study tells about one task, and many about all."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from optuna_peppp.configurations.cost import Cost
from optuna_peppp.configurations.hardware import FORMAT_NAMES
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.corpora.measurements import averaged
from optuna_peppp.prediction import Prediction
from optuna_peppp.studies.checks import (
    check_minimized,
    misfit,
    no_error,
    noisy_names,
    warn_of_ignored,
    warn_of_noise,
)
from optuna_peppp.studies.trials import Usage, agreeing, checked_classes, read_trials

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from optuna_peppp.meta.model import MetaModel


def measurements(
    study: Study, space: ConfigurationSpace
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The measurements that a study holds: its completed trials whose parameters are in ``space``.

    A trial's error is its first value, in studies of one objective or more. Names that are not
    of the space do not matter. What measured nothing that the space knows is left out, as by the
    sampler: a trial that lacks a name, or chose a value that the space does not hold, and one
    whose error is not between 0 and 1 (to 1e-6, which is taken for rounding noise). Failed,
    pruned and unfinished trials have no final error.

    Args:
        study: A study whose first objective is the error, minimized.
        space: The configurations.

    Returns:
        Configurations and errors, both of shape (m,), in the order of the trials; a configuration
        that was measured again is there again.

    Raises:
        ValueError: The first objective is maximized; or trials were completed, but all of them
            tune something else.

    Warns:
        UserWarning: Trials reported what is no error, or none of them took every name.
    """
    usage = _measuring(study, space)
    return usage.indices, usage.errors


def predict(
    study: Study,
    meta: MetaModel,
    memory: ArrayLike | Cost,
    *,
    test_images: int | None = None,
    classes: ArrayLike | None = None,
) -> Prediction:
    """Predicts the errors of all configurations on the task of a study.

    What the study measured is kept (repeats are averaged), the rest is predicted. A study that
    measured nothing predicts what past tasks tell of any.

    A configuration whose completed trials all violated a constraint (``trial.set_constraint``, a
    value above 0) tells its error as any other does, but is on no frontier and not recommended.
    What constraints the others may violate is not predicted.

    Args:
        study: A study whose first objective is the error, minimized.
        meta: The meta-model, fitted to past tasks.
        memory: Shape (d,), bytes of every configuration of ``meta.space`` on the task, or another
            :class:`~optuna_peppp.Cost`.
        test_images: How many images the task's errors are counted on, where known.
        classes: As for :class:`~optuna_peppp.PEPPPSampler`.

    Raises:
        ValueError: As :func:`measurements` does, for ``classes`` that are none, and for ``memory``
            of the wrong length or with entries that are not positive numbers.

    Warns:
        UserWarning: As :func:`measurements` does.
    """
    usage = _measuring(study, meta.space)
    if classes is not None:
        usage = usage.shared(checked_classes(classes, meta.space))
    violated = [any(value > 0 for value in t.constraints.values()) for t in usage.measured]
    always = averaged(usage.indices, violated, len(meta.space)) == 1
    return Prediction.from_measurements(
        meta,
        memory,
        usage.indices,
        usage.errors,
        test_images=test_images,
        violating=np.flatnonzero(always),
    )


def error_matrix_from_studies(
    studies: Iterable[Study], space: ConfigurationSpace, memory: ArrayLike | None = None
) -> ErrorMatrix:
    """The error matrix that past studies make: one row a study, named after it.

    What counts is what :func:`measurements` counts: completed trials, diverged ones included;
    repeats are averaged. A study that cannot be a row, because it tunes something else,
    maximizes, completed no trial or reported an error that is none, is left out with a warning.

    Args:
        studies: One study per task.
        space: The configurations; :func:`space_of` finds those that studies share.
        memory: Bytes of every configuration: shape (d,) for all tasks, or (n, d) with one row
            per study. By default what the studies report as their second objective, known for
            what they measured only.

    Raises:
        ValueError: No study can be a row, or ``memory`` is of another shape or not positive.

    Warns:
        UserWarning: A study is left out, and why; or names outside the space vary, whose effect on
            the errors is noise to whoever learns from the matrix.
    """
    studies = list(studies)
    shape = (len(studies), len(space))
    given = None if memory is None else np.asarray(memory, dtype=np.float64)
    if given is not None and given.shape not in (shape, shape[1:]):
        raise ValueError(
            f"memory must have shape ({len(space)},), one entry per configuration of space, or "
            f"{shape}, one row per study; got {given.shape}"
        )
    tasks, errors, bytes_needed = [], [], []
    noisy = dict[str, None]()
    for row, study in enumerate(studies):
        try:
            usage = _usage(study, space)
            if not usage.measured:
                raise ValueError(_nothing(study, usage, space))
        except ValueError as problem:
            warnings.warn(f"left out: {problem}", stacklevel=2)
            continue
        warn_of_ignored(study, usage, space, set())
        noisy |= dict.fromkeys(name for t in usage.measured for name in noisy_names(t, space))
        known = _reported_memory(study, usage, space) if given is None else given
        tasks.append(study.study_name)
        errors.append(averaged(usage.indices, usage.errors, len(space)))
        bytes_needed.append(known if known.ndim == 1 else known[row])
    if not tasks:
        raise ValueError(
            f"studies must hold at least one that completed trials in the space, with the error "
            f"as its first objective, minimized; of {len(studies)} none does. Name other studies, "
            "or fill them with `optuna-peppp tune --storage`"
        )
    warn_of_noise(list(noisy), space)
    return ErrorMatrix(space, tuple(tasks), np.array(errors), np.array(bytes_needed))


def space_of(studies: Iterable[Study]) -> ConfigurationSpace:
    """The space that most studies tune; of equally many, that of the earliest study.

    A study tunes the categorical parameters of its completed trials: ``format_a`` and
    ``format_b`` first, then the others by name.

    Raises:
        ValueError: No study completed a trial with parameters that a space can hold.
    """
    tuned = [space for study in studies if (space := _tuned(study)) is not None]
    if not tuned:
        raise ValueError(
            "studies must hold completed trials with categorical parameters, as "
            "space.suggest(trial) makes them; there is none. Fill them with `optuna-peppp tune "
            "--storage`"
        )
    return Counter(tuned).most_common(1)[0][0]


def _measuring(study: Study, space: ConfigurationSpace) -> Usage:
    """What the trials of a study hold that must tune the space; see :func:`measurements`."""
    usage = _usage(study, space)
    reason = misfit(study, usage, space)
    if reason and not any(agreeing(trial, space).size for trial in usage.misfits):
        raise ValueError(reason)
    warn_of_ignored(study, usage, space, set(), stacklevel=3)
    return usage


def _nothing(study: Study, usage: Usage, space: ConfigurationSpace) -> str:
    """Why a study measured nothing."""
    if usage.no_errors:
        return no_error(study, usage.no_errors)
    return misfit(study, usage, space) or f"study {study.study_name!r} has no completed trial"


def _usage(study: Study, space: ConfigurationSpace) -> Usage:
    """What the trials of a study hold."""
    check_minimized(study)
    return Usage.of(read_trials(study), space)


def _reported_memory(study: Study, usage: Usage, space: ConfigurationSpace) -> NDArray[np.float64]:
    """Shape (d,), the second values of a study, averaged; NaN where it reported none."""
    if len(study.directions) == 1:
        return np.full(len(space), np.nan)
    values = np.array([trial.values[1] for trial in usage.measured], dtype=np.float64)
    known = (values > 0) & (values < np.inf)
    if not known.all():
        bad = usage.measured[int(known.argmin())]
        warnings.warn(
            f"ignored: trial {bad.number} of study {study.study_name!r} must report its memory, a "
            f"positive number of bytes, as its second value; got {bad.values[1]}. Pass memory to "
            "use none of the reported",
            stacklevel=3,
        )
    return averaged(usage.indices[known], values[known], len(space))


def _tuned(study: Study) -> ConfigurationSpace | None:
    """The space of most of a study's completed trials, None where they have none."""
    seen = Counter(map(_categorical, read_trials(study, TrialState.COMPLETE)))
    try:
        return ConfigurationSpace(dict(seen.most_common(1)[0][0])) if seen else None
    except ValueError:  # choices that are None, formats that are none
        return None


def _categorical(trial: FrozenTrial) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """The categorical parameters of a trial and their choices, in our own order.

    Not every storage keeps the order of the parameters.
    """
    choices = {
        name: distribution.choices
        for name, distribution in trial.distributions.items()
        if isinstance(distribution, CategoricalDistribution)
    }
    return tuple(sorted(choices.items(), key=lambda item: (item[0] not in FORMAT_NAMES, item[0])))
