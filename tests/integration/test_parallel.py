"""Four processes on one study measure no configuration twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState

from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.studies.sampler import PEPPPSampler

WORKERS = 4
TRIALS_EACH = 24


def open_storage(path: str) -> BaseStorage:
    if path.endswith(".log"):
        return JournalStorage(JournalFileBackend(path))
    return RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})


def work(path: str) -> None:
    """One process: an objective that costs nothing, so that the workers collide all the time."""
    space = ConfigurationSpace.paper()
    rng = np.random.default_rng(0)
    errors = np.clip(0.5 + 0.1 * rng.normal(size=(12, 4)) @ rng.normal(size=(4, len(space))), 0, 1)
    memory = np.linspace(1e8, 2e8, len(space))
    tasks = tuple(f"task {i}" for i in range(len(errors)))
    meta = MetaModel.fit(ErrorMatrix(space, tasks, errors, np.tile(memory, (len(tasks), 1))))

    def objective(trial: Trial) -> tuple[float, float]:
        index = space.index(space.suggest(trial))
        return float(errors[0, index]), float(memory[index])

    sampler = PEPPPSampler(meta, memory)
    study = optuna.load_study(study_name="task", storage=open_storage(path), sampler=sampler)
    study.optimize(objective, n_trials=TRIALS_EACH)


@pytest.mark.parametrize("name", ["study.db", "study.log"])
def test_no_configuration_twice(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    study = optuna.create_study(
        study_name="task", storage=open_storage(path), directions=["minimize", "minimize"]
    )
    workers = [
        subprocess.Popen([sys.executable, __file__, path], stderr=subprocess.PIPE, text=True)
        for _ in range(WORKERS)
    ]
    messages = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * WORKERS, "\n".join(messages)
    trials = study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * WORKERS * TRIALS_EACH
    assert len({tuple(sorted(trial.params.items())) for trial in trials}) == len(trials)


if __name__ == "__main__":
    work(sys.argv[1])
