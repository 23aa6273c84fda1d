"""`tune` loses at most the running measurement, however it ends, and goes on from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.studies.storage import open_storage

SPACE = ConfigurationSpace.paper()
TRIALS = 5

# Compiling is over by the first result, and takes minutes on a busy machine.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_COMPILE_DISABLE": "1"}


def write_data(path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (160, 16, 16, 3)).astype(np.uint8)
    labels = rng.integers(0, 2, 160)
    np.savez(
        path,
        train_images=images[:120],
        train_labels=labels[:120],
        test_images=images[120:],
        test_labels=labels[120:],
    )


def write_corpus(path: Path) -> None:
    rng = np.random.default_rng(1)
    lines = ["task,format_a,format_b,error,memory"]
    for task in range(4):
        for index in range(len(SPACE)):
            params = SPACE.params(index)
            error = rng.uniform()
            lines.append(f"{task},{params['format_a']},{params['format_b']},{error},{index + 1}")
    path.write_text("\n".join(lines) + "\n")


def completed(storage: str) -> int:
    try:
        study = optuna.load_study(study_name="tune", storage=open_storage(storage))
    except (KeyError, ValueError):  # there is none yet
        return 0
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def end(process: subprocess.Popen[str], sent: signal.Signals) -> tuple[str, str]:
    """Sends a signal, once more if need be: Python drops a Ctrl-C that meets a destructor."""
    for _ in range(4):
        process.send_signal(sent)
        try:
            return process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("the process does not end")


@pytest.mark.slow
@pytest.mark.usefixtures("_hears_ctrl_c")
@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("sqlite:///{}/tune.db", signal.SIGINT),
        ("sqlite:///{}/tune.db", signal.SIGKILL),
        ("{}/tune.journal", signal.SIGKILL),
    ],
)
def test_interrupted_tune_goes_on(tmp_path: Path, kind: str, sent: signal.Signals) -> None:
    write_data(tmp_path / "noise.npz")
    write_corpus(tmp_path / "corpus.csv")
    storage = kind.format(tmp_path)
    command = [sys.executable, "-m", "optuna_peppp", "tune", "--trials", str(TRIALS)]
    command += ["--data", f"npz:{tmp_path}/noise.npz", "--corpus", f"{tmp_path}/corpus.csv"]
    command += ["--storage", storage, "--epochs", "5"]

    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    deadline = time.monotonic() + 300
    while completed(storage) == 0:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    stdout, stderr = end(process, sent)
    if sent == signal.SIGINT:
        assert process.returncode == 130
        assert "Recommended" in stdout
        assert "run the same command to go on" in stderr
        assert "Traceback" not in stderr
    before = completed(storage)
    assert 1 <= before < TRIALS

    again = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert f"Measured, {TRIALS} of 99 configurations" in again.stdout
    study = optuna.load_study(study_name="tune", storage=open_storage(storage))
    assert not study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    assert len({SPACE.index(trial.params) for trial in trials}) == TRIALS
