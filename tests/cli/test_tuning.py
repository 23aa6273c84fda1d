from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from typer.testing import Result


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
    assert stored.stdout == second.stdout[second.stdout.index("Measured, 4") :]


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
