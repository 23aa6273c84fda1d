from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from typer.testing import Result

from optuna_peppp.collecting import workers
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.lowprecision import Experiment
from optuna_peppp.studies.storage import open_storage

PAIRS = [f"1-{e}-{m}/1-{b}-7" for e in (3, 4) for m in (1, 2) for b in (6, 7)]


def configurations(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--configuration", pair)]


@pytest.fixture
def collect(invoke: Callable[..., Result]) -> Callable[..., Result]:
    """Runs ``optuna-peppp collect ARGUMENTS`` with the shortest of trainings."""

    def run(*arguments: str | Path, code: int = 0) -> Result:
        return invoke("collect", *arguments, "--epochs", "1", "--device", "cpu", code=code)

    return run


def rows(path: Path) -> list[dict[str, str]]:
    return [*csv.DictReader(path.read_text().splitlines())]


@pytest.mark.parametrize("name", ["corpus.journal", "sqlite"])
def test_collect_resumes(
    collect: Callable[..., Result], data: str, tmp_path: Path, name: str
) -> None:
    storage = f"sqlite:///{tmp_path}/corpus.db" if name == "sqlite" else str(tmp_path / name)
    output = tmp_path / "corpus.csv"
    command = (data, "--storage", storage)
    first = collect(*command, *configurations("1-4-3/1-6-7"))
    assert f"{storage}: 1 measurements, 1 of them made now" in first.stdout
    assert "The same command with --export corpus.csv writes them as a corpus CSV" in first.stdout
    both = configurations("1-4-3/1-6-7", "1-3-1/1-8-11")
    second = collect(*command, *both, "--export", output)
    assert f"{storage}: 2 measurements, 1 of them made now" in second.stdout
    assert f"{output}: 2 measurements" in second.stdout
    assert [(row["format_a"], row["seed"], row["epochs"]) for row in rows(output)] == [
        ("1-3-1", "0", "1"),
        ("1-4-3", "0", "1"),
    ]
    # All is there: nothing is measured, and the file is written again.
    output.unlink()
    assert "0 of them made now" in collect(*command, *both, "--export", output).stdout
    assert len(rows(output)) == 2


def test_an_exported_corpus_tunes(
    collect: Callable[..., Result], invoke: Callable[..., Result], data: str, tmp_path: Path
) -> None:
    output = tmp_path / "corpus.csv"
    other = tmp_path / "other.npz"
    other.write_bytes(Path(data.removeprefix("npz:")).read_bytes())
    options = configurations(*PAIRS)
    for learning_rate in ("0.001", "0.01"):
        options += ["--learning-rate", learning_rate]
    storage = ("--storage", tmp_path / "corpus.journal", "--export", output)
    collect(data, f"npz:{other}", *storage, *options)
    result = invoke(
        *("tune", "--data", data, "--corpus", output, "--epochs", "1"),
        *("--trials", "2", "--rank", "1"),
    )
    assert "Measured, 2 of 16 configurations" in result.output
    assert "learning_rate" in result.output


def test_what_is_collected_and_tuned_in_one_storage_is_learned_from(
    collect: Callable[..., Result],
    tune: Callable[..., Result],
    invoke: Callable[..., Result],
    data: str,
    corpus: Path,
    tmp_path: Path,
) -> None:
    storage, output, learned = (tmp_path / name for name in ("all.journal", "all.csv", "meta.npz"))
    collect(data, "--storage", storage, *configurations(*PAIRS), "--export", output)
    tune("--storage", storage, "--study-name", "new", "--trials", "2", "--rank", "1")
    # A collected study has the space of the corpora, as a tuned one has.
    fitted = invoke(
        *("fit", "--storage", storage, "--corpus", corpus, "--output", learned, "--rank", "1")
    )
    assert "Learned from 6 tasks and 99 configurations" in fitted.output
    assert "Warning" not in fitted.output
    result = invoke("tune", "--data", data, "--meta", learned, "--epochs", "1", "--trials", "1")
    assert "Measured, 1 of 99 configurations" in result.output
    merged = tmp_path / "merged.csv"
    assert "8 of 8 entries" in invoke("corpus", "info", output).output
    invoke("corpus", "merge", output, output, "--output", merged)
    assert len(rows(merged)) == 8
    assert ErrorMatrix.read_csv(merged).observed.all()


def test_a_sample_is_collected_and_the_same_command_goes_on(
    collect: Callable[..., Result], data: str, tmp_path: Path
) -> None:
    command = (data, "--storage", tmp_path / "corpus.journal", *configurations(*PAIRS))
    for _ in range(2):
        result = collect(*command, "--fraction", "0.1", "--scheme", "memory", "--seed", "5")
    # One task: every configuration is measured once, whatever the draw.
    assert "8 measurements, 0 of them made now" in result.output


@pytest.mark.parametrize("made", [0, 2])
def test_ctrl_c_exports_what_there_is(
    collect: Callable[..., Result],
    data: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made: int,
) -> None:
    storage, output = tmp_path / "corpus.journal", tmp_path / "corpus.csv"
    command = (data, "--storage", storage, "--export", output, *configurations(*PAIRS))
    original, runs = Experiment.measure, iter(range(99))

    def interrupted(self: Experiment, params: dict[str, object]) -> object:
        if next(runs) == made:
            raise KeyboardInterrupt
        return original(self, params)

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "measure", interrupted)
        result = collect(*command, code=130)
    assert "Interrupted; run the same command to go on." in result.stderr
    assert f"{output}: {made} measurements so far." in result.stdout
    assert output.exists() == (made > 0)
    study = optuna.load_study(study_name="plain3 bright", storage=open_storage(str(storage)))
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.COMPLETE] * made + [TrialState.FAIL]
    assert f"8 measurements, {8 - made} of them made now" in collect(*command).stdout
    assert len(rows(output)) == 8


def test_other_settings_are_refused_in_one_sentence(
    collect: Callable[..., Result], data: str, tmp_path: Path
) -> None:
    command = (data, "--storage", tmp_path / "corpus.journal", *configurations(PAIRS[0]))
    collect(*command)
    result = collect(*command, "--batch-size", "16", code=2)
    assert result.output == (
        "Error: study 'plain3 bright' measures with batch_size 32, not 16; ask for that or choose "
        "another --storage\n"
    )


def test_threads_are_those_of_every_process(
    collect: Callable[..., Result], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []

    def measure(*_: object, jobs: int, threads: int | None) -> int:
        given.append((jobs, threads))
        return 0

    monkeypatch.setattr(workers, "collect", measure)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = (data, "--storage", tmp_path / "c.journal", "--jobs", "3")
    collect(*command)
    collect(*command, "--threads", "2")
    assert given == [(3, None), (3, 2)]
