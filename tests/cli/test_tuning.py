from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from sqlalchemy.exc import OperationalError
from typer.testing import Result

from optuna_peppp import load_corpus
from optuna_peppp.configurations.named_spaces import named_space
from optuna_peppp.lowprecision import Experiment, TrainingResult
from optuna_peppp.studies import patience
from optuna_peppp.studies.memo import SHIPPED


def test_tune_prints_frontier_and_recommendation_and_writes_json(
    tune: Callable[..., Result], tmp_path: Path
) -> None:
    file = tmp_path / "out.json"
    result = tune("--trials", "3", "--memory-cap", "2.9MB", "--json", file)
    assert "Measured, 3 of 99 configurations" in result.output
    content = json.loads(file.read_text())
    configurations = content["configurations"]
    assert len(configurations) == 99
    assert sum(c["measured"] for c in configurations) == 3
    memories = [configurations[index]["memory"] for index in content["frontier"]]
    errors = [configurations[index]["error"] for index in content["frontier"]]
    assert memories == sorted(memories)
    assert errors == sorted(errors, reverse=True)
    chosen = configurations[content["recommendation"]]
    assert chosen["memory"] <= 2.9e6
    assert f"format_a {chosen['format_a']}, format_b {chosen['format_b']}" in result.output


@pytest.mark.parametrize("kind", ["sqlite:///{}/study.db", "{}/study.journal"])
def test_tune_resumes_and_recommend_reads(
    invoke: Callable[..., Result], tune: Callable[..., Result], tmp_path: Path, kind: str
) -> None:
    storage = kind.format(tmp_path)
    tune("--storage", storage, "--trials", "2")
    first = tune("--storage", storage, "--trials", "2")
    assert "Measured, 2 of 99" in first.output
    assert "(diverged)" not in first.output
    second = tune("--storage", storage, "--trials", "4")
    assert "Measured, 4 of 99" in second.output
    stored = invoke("recommend", "--storage", storage)
    assert stored.stdout == second.stdout


def test_the_baseline_is_told(
    invoke: Callable[..., Result], tune: Callable[..., Result], tmp_path: Path
) -> None:
    storage, file = ("--storage", tmp_path / "s.journal"), tmp_path / "out.json"
    without = tune("--trials", "1", "--no-baseline", *storage, "--json", file)
    assert "The float32 baseline, to compare with, is missing" in without.stdout
    assert json.loads(file.read_text())["baseline"] is None
    told = tune("--trials", "1", *storage, "--json", file)
    baseline = json.loads(file.read_text())["baseline"]
    (row,) = [line.split() for line in told.stdout.splitlines() if line.strip()[:7] == "float32"]
    assert row[:2] == ["float32", "float32"]
    assert row[4:] == [f"{baseline['error']:.4f}", "measured,", "to", "compare"]
    assert " of the memory of float32 (saves " in told.stdout
    assert invoke("recommend", *storage).stdout == told.stdout


def test_progress_stands_beside_the_result(tune: Callable[..., Result]) -> None:
    result = tune("--trials", "2")
    first, second, *trainings, following, _ = result.stderr.splitlines()
    assert first.startswith("Tuning plain3 on npz:")
    assert first.endswith(": 2 trainings of 1 epoch in low precision, 1 in float32.")
    assert second.startswith("Learning from ")
    assert second.endswith("corpus.csv (4 tasks).")
    assert [line.split()[-2] for line in trainings] == ["error"] * 3
    assert following.startswith("Next: add --storage tune.journal ")
    assert result.stdout.startswith("Measured, 2 of 99")


def test_what_to_type_next_can_be_typed(
    tune: Callable[..., Result], invoke: Callable[..., Result], tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path}/a b.db"
    command = ("--trials", "1", "--no-baseline", "--storage", storage, "--study-name", "a b")
    last = tune(*command).stderr.splitlines()[-1]
    typed = shlex.split(last.removeprefix("Next: optuna-peppp "))
    assert typed[-2] == "--memory-cap"
    assert f"Recommended within {typed[-1]}: " in invoke(*typed).stdout


def test_resumed_equals_uninterrupted(tune: Callable[..., Result], tmp_path: Path) -> None:
    outputs = []
    for name, steps in (("whole", ("4",)), ("parts", ("1", "3", "4"))):
        storage = f"sqlite:///{tmp_path}/{name}.db"
        for trials in steps:
            result = tune("--storage", storage, "--trials", trials)
        outputs.append(result.stdout[result.stdout.index("Measured") :])
    assert outputs[0] == outputs[1]


def test_bayesian_is_the_default(tune: Callable[..., Result]) -> None:
    assert tune("--trials", "3").stdout == tune("--trials", "3", "--strategy", "bayesian").stdout


def test_measurement_cap_is_kept(tune: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    tune("--trials", "3", "--measurement-cap", "2.8MB", "--json", file)
    measured = [c for c in json.loads(file.read_text())["configurations"] if c["measured"]]
    assert len(measured) == 3
    assert max(c["memory"] for c in measured) <= 2.8e6


def test_tune_refuses_to_mix_settings(tune: Callable[..., Result], tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    tune("--storage", storage, "--trials", "1")
    result = tune("--storage", storage, "--seed", "7", code=2)
    assert "measures with seed 0, not 7" in result.output


def test_malformed_corpus_names_the_line(
    invoke: Callable[..., Result], corpus: Path, tmp_path: Path
) -> None:
    lines = corpus.read_text().splitlines()
    lines[6] = lines[6].replace("task0", "task0,oops", 1)
    bad = tmp_path / "bad.csv"
    bad.write_text("\n".join(lines) + "\n")
    result = invoke("tune", "--corpus", bad, code=2)
    assert "bad.csv" in result.output
    assert "line 7" in result.output


def test_empty_corpus(invoke: Callable[..., Result], tmp_path: Path) -> None:
    bad = tmp_path / "empty.csv"
    bad.touch()
    assert "empty.csv" in invoke("tune", "--corpus", bad, code=2).output


def test_an_incomplete_corpus_tunes(
    invoke: Callable[..., Result], data: str, corpus: Path, tmp_path: Path
) -> None:
    holes = tmp_path / "holes.csv"
    holes.write_text("\n".join(corpus.read_text().splitlines()[:-30]) + "\n")
    result = invoke("tune", "--data", data, "--corpus", holes, "--epochs", "1", "--trials", "1")
    assert "Measured, 1 of 99" in result.output


def test_a_saved_meta_model_tunes_like_its_corpus(
    tune: Callable[..., Result],
    invoke: Callable[..., Result],
    data: str,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    invoke("fit", "--corpus", corpus, "--rank", "2", "--output", "learned")
    command = ("tune", "--data", data, "--epochs", "1")
    invoke(*command, "--meta", "learned", "--storage", "s.journal", "--trials", "1")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    storage = ("--storage", tmp_path / "s.journal")
    resumed = invoke(*command, "--meta", "../learned", *storage, "--trials", "3")
    expected = tune("--rank", "2", "--trials", "3")
    table = expected.stdout[expected.stdout.index("Measured, 3") :]
    assert resumed.stdout.endswith(table)
    assert invoke("recommend", *storage).stdout == table
    (tmp_path / "learned").unlink()
    gone = invoke("recommend", *storage, code=2)
    assert f"there is no meta-model {tmp_path}" in gone.output
    assert "`optuna-peppp fit` writes one" in gone.output


def test_a_space_that_is_none(invoke: Callable[..., Result], tmp_path: Path) -> None:
    """Named as it was given, before anything is read or trained."""
    wrong = invoke("tune", "--space", "hardwear", code=2)
    assert "got 'hardwear', which is no file. Did you mean 'hardware'?" in wrong.output
    path = tmp_path / "space.json"
    path.write_text('{"states": ["dynamic8"]}')
    format_ = invoke("tune", "--space", path, code=2)
    assert "got 'dynamic8'. Did you mean 'dynamic8@256'?" in format_.output
    both = invoke("tune", "--space", "hardware", "--corpus", "plain3-cifar100", code=2)
    assert "tuned without past tasks" in both.output


def test_a_space_with_a_name_has_a_corpus(invoke: Callable[..., Result]) -> None:
    """Its name is told; a cap that nothing meets ends the command before a training."""
    for name, corpus in SHIPPED.items():
        told = invoke("tune", "--space", name, "--memory-cap", "1kB", code=2).output
        assert f"without past tasks: --corpus {corpus} has some." in told
        assert load_corpus(corpus).space == named_space(name)


def test_a_space_of_a_file_is_tuned_and_found_again(
    invoke: Callable[..., Result], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("space.json").write_text('{"format_a": ["1-3-1", "1-4-3"], "format_b": ["1-6-7"]}')
    storage = ("--storage", tmp_path / "s.journal")
    few = ("--epochs", "1", "--trials", "2", "--no-baseline")
    tuned = invoke("tune", "--data", data, "--space", "space.json", *few, *storage)
    assert "Measured, 2 of 2 configurations" in tuned.stdout
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    assert tuned.stdout.endswith(invoke("recommend", *storage).stdout)


@pytest.mark.parametrize("more", [("--rank", "2"), ("--corpus", "plain3-cifar100")])
def test_a_meta_model_goes_with_no_corpus(
    more: tuple[str, ...], invoke: Callable[..., Result], tmp_path: Path
) -> None:
    result = invoke("tune", "--meta", tmp_path / "learned.npz", *more, code=2)
    assert "so that corpus and rank do not go with it" in result.output
    assert len(result.output.splitlines()) == 1


def test_what_is_no_meta_model(invoke: Callable[..., Result], corpus: Path) -> None:
    result = invoke("tune", "--meta", corpus, code=2)
    assert "is not a file of MetaModel.save" in result.output


def test_recommend_finds_its_corpus_from_another_folder(
    invoke: Callable[..., Result],
    data: str,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(corpus.parent)
    storage = ("--storage", tmp_path / "s.journal")
    near = ("--corpus", corpus.name, "--epochs", "1", "--trials", "1")
    tuned = invoke("tune", "--data", data, *near, *storage)
    monkeypatch.chdir(tmp_path)
    assert tuned.stdout.endswith(invoke("recommend", *storage).stdout)


def test_corpus_of_what_tune_cannot_set(
    invoke: Callable[..., Result], corpus: Path, tmp_path: Path
) -> None:
    lines = corpus.read_text().splitlines()
    bad = tmp_path / "dropout.csv"
    rows = [line.replace(",", f",{rate},", 1) for rate in (0.1, 0.5) for line in lines[1:]]
    bad.write_text("\n".join([lines[0].replace(",", ",dropout,", 1), *rows]) + "\n")
    assert "dropout" in invoke("tune", "--corpus", bad, code=2).output


def test_recommend_needs_a_study(
    invoke: Callable[..., Result], tune: Callable[..., Result], tmp_path: Path
) -> None:
    missing = invoke("recommend", "--storage", f"sqlite:///{tmp_path}/none.db", code=2)
    assert "does not exist" in missing.output
    assert not list(tmp_path.iterdir())
    storage = f"sqlite:///{tmp_path}/study.db"
    tune("--storage", storage, "--trials", "1")
    other = invoke("recommend", "--storage", storage, "--study-name", "other", code=2)
    assert "there is no study 'other'" in other.output
    low = invoke("recommend", "--storage", storage, "--memory-cap", "1kB", code=2)
    assert "smallest memory" in low.output


def test_tune_leaves_a_foreign_study_alone(tune: Callable[..., Result], tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(
        storage=storage, study_name="tune", directions=["minimize", "minimize"]
    )
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 1.0), n_trials=1)
    result = tune("--storage", storage, code=2)
    assert "was not made by `tune`" in result.output
    assert len(optuna.load_study(storage=storage, study_name="tune").trials) == 1


@pytest.fixture
def _trained_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings take no time."""
    result = TrainingResult(0.25, (0.25,), diverged=False, epochs=1)
    monkeypatch.setattr(Experiment, "measure", lambda self, *_: result)


@pytest.mark.usefixtures("_trained_at_once")
def test_a_corpus_that_changed(
    tune: Callable[..., Result],
    invoke: Callable[..., Result],
    corpus: Path,
    tmp_path: Path,
) -> None:
    text, path, storage = corpus.read_text(), tmp_path / "mine.csv", tmp_path / "s.journal"
    path.write_text(text)
    tune("--corpus", path, "--storage", storage, "--trials", "1")
    assert "Warning" not in invoke("recommend", "--storage", storage).stderr
    path.write_text(text.replace("0.3", "0.4"))
    told = invoke("recommend", "--storage", storage)
    assert told.stderr == (
        f"Warning: {path} holds other measurements than when study 'tune' in {storage} learned "
        "from it\n"
    )
    path.write_text(text.replace(",1-8-11,", ",1-8-12,"))
    refused = invoke("recommend", "--storage", storage, code=2)
    assert "format_b lacks 1-8-11 and has 1-8-12" in refused.stderr
    assert refused.stdout == ""
    again = tune("--corpus", path, "--storage", storage, "--trials", "2", code=2)
    assert "format_b lacks 1-8-11 and has 1-8-12" in again.stderr


@pytest.mark.usefixtures("_trained_at_once")
def test_half_a_line_of_a_journal_is_told_and_cut(
    tune: Callable[..., Result], tmp_path: Path
) -> None:
    storage = tmp_path / "s.journal"
    tune("--storage", storage, "--trials", "1")
    with storage.open("a") as file:
        file.write('{"op_code":4,"worker_id":"4f')
    again = tune("--storage", storage, "--trials", "2")
    assert "Measured, 2 of 99" in again.stdout
    assert again.stderr.count("Warning: ") == 1
    assert f"Warning: the end of {storage} was no entry of a journal" in again.stderr


@pytest.mark.parametrize("failed", ["s.json", "s.html"])
@pytest.mark.usefixtures("_trained_at_once")
def test_a_file_that_cannot_be_written_loses_nothing(
    tune: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failed: str
) -> None:
    files = {name: tmp_path / name for name in ("s.json", "s.html")}
    for file in files.values():
        file.write_text("before")
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if target.name == failed:
            raise OSError(28, "No space left on device", str(target))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    result = tune("--trials", "1", "--json", files["s.json"], "--report", files["s.html"], code=2)
    assert "Recommended, " in result.stdout
    assert "No space left on device" in result.stderr
    for name, file in files.items():
        assert (file.read_text() == "before") == (name == failed)
    assert set(tmp_path.iterdir()) == set(files.values())


def test_trainings_that_fail_one_after_another(
    tune: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = TrainingResult(0.25, (0.25,), diverged=False, epochs=1)
    made = []

    def measure(self: Experiment, *_: object) -> TrainingResult:
        made.append(self)
        if len(made) > 1:
            raise RuntimeError("CUDA out of memory.")
        return result

    monkeypatch.setattr(Experiment, "measure", measure)
    told = tune("--trials", "6", "--storage", tmp_path / "s.journal", code=1)
    assert "3 trainings failed one after another" in told.stderr
    assert "RuntimeError: CUDA out of memory" in told.stderr
    assert "Measured, 1 of 99" in told.stdout
    assert len(made) == 4


@pytest.mark.usefixtures("_trained_at_once")
def test_a_storage_that_fails_for_long(
    tune: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object, **__: object) -> None:
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    monkeypatch.setattr(optuna.storages.JournalStorage, "set_trial_state_values", locked)
    monkeypatch.setattr(patience.Pace.__init__, "__defaults__", _impatient())
    result = tune("--trials", "1", "--storage", tmp_path / "s.journal", code=2)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert f"storage {tmp_path}/s.journal failed (database is locked)" in line


def _impatient() -> tuple[object, ...]:
    """The defaults of a pace without patience."""
    _, *others = patience.Pace.__init__.__defaults__ or ()
    return (0.0, *others)
