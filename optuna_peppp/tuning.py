"""Tuning the precision of a named experiment, in a study that explains itself and resumes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState
from tqdm import tqdm

from optuna_peppp.credentials import shown
from optuna_peppp.matrix import read_corpus
from optuna_peppp.meta import MetaModel
from optuna_peppp.prediction import Prediction
from optuna_peppp.sampler import PEPPPSampler, Strategy
from optuna_peppp.sizes import format_size
from optuna_peppp.storage import experimental, open_storage
from optuna_peppp.study import predict

if TYPE_CHECKING:
    from optuna_peppp.lowprecision import Experiment

_ATTRIBUTE: Final = "optuna_peppp"
"""Study attribute with what is needed to go on: experiment, memory, and what was learned from."""

DEFAULT_CORPUS: Final = "plain3-cifar100"
"""The past tasks to learn from, unless others are named."""


@dataclass(frozen=True, slots=True, eq=False)
class Tuning:
    """A study of one experiment, and the meta-model that guides it.

    Attributes:
        study: The Optuna study; its values are (error, memory in bytes).
        meta: The meta-model of past tasks.
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
        corpus: str | None = None,
        rank: int | None = None,
        meta: str | None = None,
        storage: str | None = None,
        study_name: str = "tune",
    ) -> Self:
        """Creates the study of an experiment, or takes up the stored one.

        Args:
            experiment: The network, the data set and the settings of its trainings.
            corpus: Past tasks: the name of a corpus that ships, or a CSV file; by default
                ``DEFAULT_CORPUS``.
            rank: Rank of the meta-model that is fitted to them.
            meta: A file of :meth:`MetaModel.save`, instead of corpus and rank.
            storage: A database URL, a journal file, or None to keep the study in memory.
            study_name: Name of the study.

        Raises:
            ValueError: The past tasks or the storage cannot be read, they tune what the
                experiment does not know, or the stored study is of another experiment.
        """
        from optuna_peppp.lowprecision.experiment import TUNABLE

        if meta is not None and (corpus, rank) != (None, None):
            raise ValueError(
                f"the meta-model {meta} was fitted already, so that corpus and rank do not go with "
                "it; give one or the other"
            )
        # Files by the path that holds in any folder, for who takes the study up elsewhere.
        if meta is not None:
            meta = str(Path(meta).absolute())
        elif corpus is None:
            corpus = DEFAULT_CORPUS
        elif corpus.endswith(".csv"):
            corpus = str(Path(corpus).absolute())
        model = _learn(corpus, rank, meta)
        unknown = set(model.space.names) - {"format_a", "format_b", *TUNABLE}
        if unknown:
            raise ValueError(
                f"{meta or corpus} tunes {', '.join(sorted(unknown))}, which a named experiment "
                "cannot set; use PEPPPSampler with an objective of your own"
            )
        memory = experiment.memory(model.space)
        settings = {name: v for name, v in asdict(experiment).items() if name != "device"}
        opened = None if storage is None else open_storage(storage, create=True)
        where = shown(storage) if storage else "memory"
        if True:
            study = optuna.create_study(
                storage=opened,
                study_name=study_name,
                directions=["minimize", "minimize"],
                load_if_exists=True,
            )
            stored = study.user_attrs.get(_ATTRIBUTE)
            if stored is None and study.get_trials(deepcopy=False):
                raise ValueError(
                    f"study {study_name!r} in {where} was not made by `tune`; choose another "
                    "--study-name"
                )
            for name, value in (stored or {}).get("experiment", {}).items():
                if settings[name] != value:
                    raise ValueError(
                        f"study {study_name!r} in {where} measures with {name} {value}, not "
                        f"{settings[name]}; ask for that or choose another --study-name"
                    )
            study.set_user_attr(
                _ATTRIBUTE,
                {
                    "experiment": settings,
                    "corpus": corpus,
                    "rank": rank,
                    "meta": meta,
                    "memory": memory.tolist(),
                },
            )
            with experimental():
                study.set_metric_names(["error", "memory"])
        return cls(study, model, memory)

    @classmethod
    def load(cls, storage: str, study_name: str = "tune") -> Self:
        """Takes up a stored study to look at it.

        Raises:
            ValueError: There is no such storage or study, `tune` did not make it, or what it
                learned from is gone.
        """
        opened = open_storage(storage)
        if True:
            try:
                study = optuna.load_study(storage=opened, study_name=study_name)
            except KeyError:
                raise ValueError(f"there is no study {study_name!r} in {shown(storage)}") from None
            stored: dict[str, Any] | None = study.user_attrs.get(_ATTRIBUTE)
        if stored is None:
            raise ValueError(f"study {study_name!r} in {shown(storage)} was not made by `tune`")
        meta = _learn(stored["corpus"], stored["rank"], stored.get("meta"))
        return cls(study, meta, np.array(stored["memory"]))

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


def _learn(corpus: str | None, rank: int | None, meta: str | None) -> MetaModel:
    """The meta-model: as it was saved, or fitted to a corpus."""
    if meta is None:
        return MetaModel.fit(read_corpus(corpus or DEFAULT_CORPUS), rank=rank)
    if not Path(meta).is_file():
        raise ValueError(f"there is no meta-model {meta}; `optuna-peppp fit` writes one")
    return MetaModel.load(meta)
