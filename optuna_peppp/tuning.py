"""Tuning the precision of a named experiment, in a study that explains itself and resumes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from optuna_peppp.matrix import ErrorMatrix, load_corpus
from optuna_peppp.meta import MetaModel
from optuna_peppp.prediction import Prediction
from optuna_peppp.sampler import PEPPPSampler, Strategy
from optuna_peppp.sizes import format_size
from optuna_peppp.study import predict

if TYPE_CHECKING:
    from optuna_peppp.lowprecision import Experiment

_ATTRIBUTE: Final = "optuna_peppp"
"""Study attribute that holds what is needed to go on: experiment, corpus, rank and memory."""

_HEARTBEAT: Final = 60
"""Seconds between signs of life of a running trial; without any, it counts as failed."""


@dataclass(frozen=True, slots=True, eq=False)
class Tuning:
    """A study of one experiment, and the meta-model that guides it.

    Attributes:
        study: The Optuna study; its values are (error, memory in bytes).
        meta: The meta-model, fitted to the corpus.
        memory: (d,) bytes, the memory of every configuration of ``meta.space``.
    """

    study: optuna.Study
    meta: MetaModel
    memory: NDArray[np.float64]

    @classmethod
    def start(
        cls,
        experiment: Experiment,
        *,
        corpus: str,
        rank: int | None = None,
        storage: str | None = None,
        study_name: str = "tune",
    ) -> Self:
        """Creates the study of an experiment, or takes up the stored one.

        Args:
            experiment: The network, the data set and the settings of its trainings.
            corpus: Past tasks: the name of a corpus that ships, or a CSV file.
            rank: Rank of the meta-model.
            storage: A database URL, a journal file, or None to keep the study in memory.
            study_name: Name of the study.

        Raises:
            ValueError: The corpus or the storage cannot be read, the corpus tunes what the
                experiment does not know, or the stored study is of another experiment.
        """
        from optuna_peppp.lowprecision.experiment import TUNABLE

        meta = _fit(corpus, rank)
        unknown = set(meta.space.names) - {"format_a", "format_b", *TUNABLE}
        if unknown:
            raise ValueError(
                f"corpus {corpus!r} tunes {', '.join(sorted(unknown))}, which a named experiment "
                "cannot set; use PEPPPSampler with an objective of your own"
            )
        memory = experiment.memory(meta.space)
        settings = {name: v for name, v in asdict(experiment).items() if name != "device"}
        with _storage_errors(storage):
            study = optuna.create_study(
                storage=None if storage is None else _open(storage),
                study_name=study_name,
                directions=["minimize", "minimize"],
                load_if_exists=True,
            )
            stored = study.user_attrs.get(_ATTRIBUTE)
            if stored is None and study.get_trials(deepcopy=False):
                raise ValueError(
                    f"study {study_name!r} in {storage} was not made by `tune`; choose another "
                    "--study-name"
                )
            for name, value in (stored or {}).get("experiment", {}).items():
                if settings[name] != value:
                    raise ValueError(
                        f"study {study_name!r} in {storage} measures with {name} {value}, not "
                        f"{settings[name]}; ask for that or choose another --study-name"
                    )
            study.set_user_attr(
                _ATTRIBUTE,
                {
                    "experiment": settings,
                    "corpus": corpus,
                    "rank": rank,
                    "memory": memory.tolist(),
                },
            )
            with _experimental():
                study.set_metric_names(["error", "memory"])
        return cls(study, meta, memory)

    @classmethod
    def load(cls, storage: str, study_name: str = "tune") -> Self:
        """Takes up a stored study to look at it.

        Raises:
            ValueError: There is no such storage or study, or `tune` did not make it.
        """
        path = _file_of(storage)
        if path is not None and not path.exists():
            raise ValueError(f"there is no storage {storage}: {path} does not exist")
        with _storage_errors(storage):
            try:
                study = optuna.load_study(storage=_open(storage), study_name=study_name)
            except KeyError:
                raise ValueError(f"there is no study {study_name!r} in {storage}") from None
            stored: dict[str, Any] | None = study.user_attrs.get(_ATTRIBUTE)
        if stored is None:
            raise ValueError(f"study {study_name!r} in {storage} was not made by `tune`")
        return cls(study, _fit(stored["corpus"], stored["rank"]), np.array(stored["memory"]))

    def run(
        self,
        experiment: Experiment,
        trials: int,
        *,
        strategy: Strategy,
        measurement_cap: str | float | None = None,
        seed: int | None = None,
    ) -> None:
        """Measures until the study holds so many completed trials, showing progress.

        Args:
            experiment: The experiment the study was started with.
            trials: Completed trials in all, those of earlier runs included.
            strategy: As for :class:`PEPPPSampler`.
            measurement_cap: As for :class:`PEPPPSampler`.
            seed: As for :class:`PEPPPSampler`.

        Raises:
            ValueError: As :class:`PEPPPSampler`.
        """
        self.study.sampler = PEPPPSampler(
            self.meta,
            self.memory,
            strategy=strategy,
            measurement_cap=measurement_cap,
            seed=seed,
        )
        done = len(self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        if done >= trials:
            return
        bar = tqdm(total=(trials - done) * experiment.epochs, unit="epoch", leave=False)

        def on_epoch(epoch: int) -> None:
            bar.update()

        def objective(trial: optuna.Trial) -> tuple[float, float]:
            params = self.meta.space.suggest(trial)
            memory = float(self.memory[self.meta.space.index(params)])
            bar.set_description(" / ".join(map(str, params.values())))
            result = experiment.measure(params, on_epoch)
            trial.set_user_attr("diverged", result.diverged)
            tqdm.write(
                f"  {' / '.join(map(str, params.values())):<24}{format_size(memory):>10}   "
                f"error {result.error:.4f}{'   (diverged)' if result.diverged else ''}"
            )
            return result.error, memory

        with bar:
            self.study.optimize(
                objective,
                n_trials=trials - done,
                # Other workers on the same storage bring the end nearer.
                callbacks=[MaxTrialsCallback(trials, states=(TrialState.COMPLETE,))],
            )

    def predict(self) -> Prediction:
        """What the study's measurements tell about every configuration."""
        return predict(self.study, self.meta, self.memory)


def _fit(corpus: str, rank: int | None) -> MetaModel:
    path = Path(corpus)
    matrix = ErrorMatrix.read_csv(path) if path.suffix == ".csv" else load_corpus(corpus)
    return MetaModel.fit(matrix, rank=rank)


def _open(storage: str) -> BaseStorage:
    with _experimental():
        if "://" in storage:
            return RDBStorage(storage, heartbeat_interval=_HEARTBEAT)
        path = _file_of(storage)
        if path is None:
            raise ValueError(
                "storage must be a database URL such as sqlite:///tune.db or a journal file "
                f"such as tune.journal; got {storage!r}"
            )
        return JournalStorage(JournalFileBackend(str(path)))


def _file_of(storage: str) -> Path | None:
    """The file that a storage is kept in, None for a database server."""
    if "://" not in storage:
        return Path(storage) if Path(storage).suffix in (".journal", ".log") else None
    with _storage_errors(storage):
        url = make_url(storage)
    is_file = url.get_backend_name() == "sqlite" and url.database
    return Path(url.database) if is_file and url.database else None


@contextmanager
def _storage_errors(storage: str | None) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, ImportError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"storage {storage!r} cannot be opened: {reason}. It must be a database URL such as "
            "sqlite:///tune.db or a journal file such as tune.journal"
        ) from error


@contextmanager
def _experimental() -> Iterator[None]:
    """Optuna warns of what it may change: heartbeats and metric names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
