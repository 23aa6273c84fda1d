"""The studies of a plan in an Optuna storage: a task each, so that the storage is a corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import optuna
from optuna.study import StudyDirection

from optuna_peppp.collecting.claims import Claims, Key
from optuna_peppp.studies.patience import Pace
from optuna_peppp.studies.settings import check_settings
from optuna_peppp.studies.storage import experimental, open_storage
from optuna_peppp.studies.trials import read_trials

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from optuna_peppp.collecting.planning import Measurement, Plan

_SETTINGS: Final = "peppp:settings"
"""Study attribute: what all its measurements share, by name."""

_DIRECTIONS: Final = [StudyDirection.MINIMIZE, StudyDirection.MINIMIZE]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A study, and what it is to hold.

    Attributes:
        claims: What is made of it, and by whom.
        planned: What is to be made, the first to be made first.
        settings: What all its measurements share.
    """

    claims: Claims
    planned: dict[Key, Measurement]
    settings: dict[str, Any]

    @property
    def copies(self) -> dict[Key, Key]:
        """Of what is the training of another that comes first in the plan, that one."""
        first: dict[tuple[int | None, int], Key] = {}
        copies: dict[Key, Key] = {}
        for key, measurement in self.planned.items():
            if measurement.same_as is not None:
                made = first.setdefault((measurement.same_as, measurement.experiment.seed), key)
                if made != key:
                    copies[key] = made
        return copies


def start(plan: Plan, storage: str, worker: str, pace: Pace | None = None) -> list[Task]:
    """The tasks of a plan, to be measured; storage and studies are made where there are none.

    Args:
        plan: The plan.
        storage: A database URL, or the path of a journal file.
        worker: Who measures, for :class:`~optuna_peppp.collecting.claims.Claims`.
        pace: How long it waits, for what.

    Raises:
        StorageError: The storage fails.
        ValueError: The storage cannot be used, or a study of that name is of something else.
    """
    opened = open_storage(storage, create=True, pace=pace)
    there = _names(opened)
    tasks = []
    for name, planned in plan.items():
        if name in there:
            study = optuna.load_study(storage=opened, study_name=name)
        else:
            study = optuna.create_study(
                storage=opened, study_name=name, directions=_DIRECTIONS, load_if_exists=True
            )
        task = _task(study, planned, worker, pace)
        if _SETTINGS not in study.user_attrs:
            study.set_user_attr(_SETTINGS, task.settings)
            with experimental():
                study.set_metric_names(["error", "memory"])
        tasks.append(task)
    return tasks


def load(plan: Plan, storage: str) -> list[Task]:
    """The tasks of a plan that a storage holds, to be read.

    Raises:
        ValueError: As :func:`start`, or there is no such storage.
    """
    opened = open_storage(storage)
    there = _names(opened)
    return [
        _task(optuna.load_study(storage=opened, study_name=name), planned, worker="")
        for name, planned in plan.items()
        if name in there
    ]


def _task(
    study: optuna.Study, planned: dict[Key, Measurement], worker: str, pace: Pace | None = None
) -> Task:
    """The task of a study.

    Raises:
        ValueError: The study is of something else.
    """
    first = next(iter(planned.values()))
    settings = first.settings
    stored: Mapping[str, Any] | None = study.user_attrs.get(_SETTINGS)
    if stored is not None:
        check_settings(f"study {study.study_name!r}", stored, settings, "--storage")
    elif study.directions != _DIRECTIONS or read_trials(study):
        raise ValueError(
            f"study {study.study_name!r} was not made by `collect`; choose another --storage"
        )
    return Task(Claims(study, first.space, worker, pace), planned, settings)


def _names(opened: BaseStorage) -> set[str]:
    """The studies that there are."""
    return {study.study_name for study in opened.get_all_studies()}
