"""What is wrong with a study, in sentences: refused, or warned of once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import optuna
from optuna.study import StudyDirection

from optuna_peppp.configurations.cost import Cost
from optuna_peppp.corpora.measurements import as_error
from optuna_peppp.studies.trials import Usage, agreeing

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from optuna_peppp.configurations.space import ConfigurationSpace

_LOGGER: Final = optuna.logging.get_logger(__name__)

_SAME_COST: Final = 0.01
"""Relative difference up to which a reported cost is the given one."""


def check_minimized(study: Study) -> None:
    """Refuses a study whose first objective cannot be the error.

    Raises:
        ValueError: The first objective is maximized.
    """
    if study.directions[0] != StudyDirection.MINIMIZE:
        raise ValueError(
            f"study {study.study_name!r} must minimize its first objective, the error; it "
            "maximizes it. Report 1 - accuracy in a study that minimizes"
        )


def check_same_space(
    study: Study, trials: Sequence[FrozenTrial], space: ConfigurationSpace
) -> None:
    """Refuses a study that Optuna would not let us continue, and says why.

    Raises:
        ValueError: A trial chose one of the space's names from other values.
    """
    distributions = [trial.distributions for trial in trials]
    for name, choices in space.choices.items():
        # Tuples compare a hundred times faster than distributions do, and are mostly the same.
        chosen = [getattr(own[name], "choices", ()) for own in distributions if name in own]
        if any(theirs is not choices and theirs != choices for theirs in chosen):
            number, theirs = next(
                (trial.number, own[name])
                for trial, own in zip(trials, distributions, strict=True)
                if name in own and getattr(own[name], "choices", ()) != choices
            )
            raise ValueError(
                f"study {study.study_name!r} must choose {name!r} from {choices}, as the "
                f"meta-model's space does; its trial {number} chose from {theirs}. Start a new "
                "study, or fit the meta-model on the study's own space"
            )


def misfit(study: Study, usage: Usage, space: ConfigurationSpace) -> str:
    """Why no completed trial measured anything in the space; empty where one did."""
    if usage.measured or usage.no_errors or not usage.misfits:
        return ""
    trial = usage.misfits[-1]
    try:
        space.index(trial.params)
    except ValueError as problem:
        return (
            f"study {study.study_name!r} must tune {', '.join(space.names)} with the choices of "
            "the space, as space.suggest(trial) does; no completed trial fits. "
            f"Trial {trial.number}: {problem}"
        )
    return ""


def no_error(study: Study, trials: tuple[FrozenTrial, ...]) -> str:
    """What is wrong with trials that reported what is no error, the first by its value."""
    first, *others = trials
    more = f" ({len(others)} more trials like it)" if others else ""
    error, *further = first.values
    # A ratio in percent is not swapped.
    swapped = 100 < error < np.inf and further and as_error(further[0]) is not None
    remedy = f", and {further[0]} as the second: swap the two" if swapped else ""
    return (
        f"trial {first.number} of study {study.study_name!r} must report an error between 0 "
        f"and 1, the ratio of misclassified images, as its first value; got "
        f"{error}{remedy}{more}"
    )


def warn_of_ignored(
    study: Study,
    usage: Usage,
    space: ConfigurationSpace,
    warned: set[tuple[str, object]],
    stacklevel: int = 2,
) -> None:
    """Says which completed trials tell nothing, each trial once.

    - Those that reported what is no error: one warning, which names the first.
    - Those that took only some of the space's names, where no trial took all: one warning.

    Args:
        study: The study.
        usage: What its trials hold.
        space: The configurations.
        warned: Of which trials was warned, by study and number; grows.
        stacklevel: As for :func:`warnings.warn`, from the caller's line on.

    Warns:
        UserWarning: Trials are ignored.
    """
    name = study.study_name
    fresh = tuple(trial for trial in usage.no_errors if (name, trial.number) not in warned)
    warned |= {(name, trial.number) for trial in fresh}
    if fresh:
        warnings.warn(f"ignored: {no_error(study, fresh)}", stacklevel=stacklevel + 1)
    reason = misfit(study, usage, space)
    if reason and any(agreeing(trial, space).size for trial in usage.misfits):
        numbers = {(name, trial.number) for trial in usage.misfits}
        known = not warned.isdisjoint(numbers)
        warned |= numbers
        if not known:
            warnings.warn(f"nothing is learned: {reason}", stacklevel=stacklevel + 1)


def warn_of_objectives(
    study: Study,
    usage: Usage,
    cost: Cost,
    warned: set[tuple[str, object]],
    stacklevel: int = 2,
) -> None:
    """Says where a study's further objectives are not what the sampler goes by, each once.

    Args:
        study: The study.
        usage: What its trials hold.
        cost: Memory of every configuration, or what was given in its place.
        warned: Of what was warned; grows.
        stacklevel: As for :func:`warnings.warn`, from the caller's line on.

    Warns:
        UserWarning: There are more than two; or the second is not the cost given, unless
            ``study.set_metric_names`` calls it otherwise.
    """
    name, count = study.study_name, len(study.directions)
    if count > 2 and (name, "objectives") not in warned:
        warned.add((name, "objectives"))
        warnings.warn(
            f"study {name!r} has {count} objectives, of which PEPPPSampler heeds the first, the "
            f"error, against the {cost.name} that it was given; the others decide nothing",
            stacklevel=stacklevel + 1,
        )
    if count == 1 or (name, "memory") in warned:
        return
    reported = np.array([trial.values[1] for trial in usage.measured], dtype=np.float64)
    expected = cost.array[usage.indices]
    # NaN is another cost.
    others = np.flatnonzero(~(np.abs(reported - expected) <= _SAME_COST * expected))
    if not others.size:
        return
    warned.add((name, "memory"))
    names = study.metric_names
    if names is None or cost.name.casefold() in names[1].casefold():
        trial, given = usage.measured[others[0]], float(expected[others[0]])
        warnings.warn(
            f"trial {trial.number} of study {name!r} reports {trial.values[1]:g} as its second "
            f"value, but the {cost.name} given for its configuration is {given:g} "
            f"({cost.format(given)}), which is what counts; give PEPPPSampler the {cost.name} that "
            "the objective reports, or call the second value otherwise with study.set_metric_names",
            stacklevel=stacklevel + 1,
        )


def noisy_names(trial: FrozenTrial, space: ConfigurationSpace) -> list[str]:
    """The names outside the space of which the trial chose one of several values."""
    return [
        name
        for name, distribution in trial.distributions.items()
        if name not in space.names and not distribution.single()
    ]


def warn_of_noise(names: Sequence[str], space: ConfigurationSpace, stacklevel: int = 2) -> None:
    """Says that what varies outside the space is noise to whoever learns from the errors.

    Warns:
        UserWarning: There are such names.
    """
    if names:
        warnings.warn(
            f"the studies vary {', '.join(names)}, too, which the space does not hold: to what is "
            "learned, their effect on the errors is noise. To learn it, put a few values of each "
            f"into the space beside {', '.join(space.names)}",
            stacklevel=stacklevel + 1,
        )


def tell_of_noise(
    study: Study, trial: FrozenTrial, space: ConfigurationSpace, warned: set[tuple[str, object]]
) -> None:
    """Logs once of a study that names outside the space vary, which is noise to the sampler.

    It may be meant so, and is left to the independent sampler.
    """
    names = noisy_names(trial, space)
    if names and (study.study_name, "noise") not in warned:
        warned.add((study.study_name, "noise"))
        _LOGGER.info(
            f"study {study.study_name!r} varies {', '.join(names)}, too, which PEPPPSampler does "
            "not know: to what it learns, their effect on the errors is noise"
        )


def tell_of_nothing_taken(
    study: Study, trial: FrozenTrial, space: ConfigurationSpace, warned: set[tuple[str, object]]
) -> None:
    """Logs once that a completed trial took none of the names, which then are not tuned.

    Optuna logs likewise what its samplers leave to others: it may be meant so.
    """
    if (study.study_name, "names") not in warned:
        warned.add((study.study_name, "names"))
        _LOGGER.warning(
            f"trial {trial.number} of study {study.study_name!r} took none of "
            f"{', '.join(space.names)}, so that PEPPPSampler had nothing to choose; if it should, "
            "the objective must call space.suggest(trial)"
        )
