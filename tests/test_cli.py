"""The command line, as a user types it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from typer.testing import CliRunner, Result

from optuna_peppp.cli import app
from optuna_peppp.space import ConfigurationSpace

COMMANDS = ("tune", "recommend", "collect", "memory")


def invoke(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data set that trains in a blink: two classes that differ in brightness."""
    path = tmp_path_factory.mktemp("data") / "bright.npz"
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 80)
    images = rng.integers(0, 120, (80, 16, 16, 3)) + 100 * labels[:, None, None, None]
    pixels = images.astype(np.uint8)
    np.savez(
        path,
        train_images=pixels[:60],
        train_labels=labels[:60, None],
        test_images=pixels[60:],
        test_labels=labels[60:, None],
    )
    return f"npz:{path}"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four past tasks: errors fall with the mantissa of Format A, more steeply in some tasks."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.csv"
    space = ConfigurationSpace.paper()
    rng = np.random.default_rng(1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["task", "format_a", "format_b", "error", "memory"])
        for task in range(4):
            for index in range(len(space)):
                precision = space.precision(index)
                error = 0.2 + 0.1 * task / precision.format_a.mantissa + rng.uniform(0, 0.02)
                row = [*space.params(index).values(), f"{error:.6f}"]
                writer.writerow([f"task{task}", *row, 1000 + 10 * index])
    return path


def tune(data: str, corpus: Path, *more: str | Path, code: int = 0) -> Result:
    return invoke("tune", "--data", data, "--corpus", corpus, "--epochs", "1", *more, code=code)


def test_tune_prints_frontier_and_recommendation_and_writes_json(
    data: str, corpus: Path, tmp_path: Path
) -> None:
    file = tmp_path / "out.json"
    result = tune(data, corpus, "--trials", "3", "--memory-cap", "2.9MB", "--json", file)
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
    data: str, corpus: Path, tmp_path: Path, kind: str
) -> None:
    storage = kind.format(tmp_path)
    tune(data, corpus, "--storage", storage, "--trials", "2")
    first = tune(data, corpus, "--storage", storage, "--trials", "2")
    assert "Measured, 2 of 99" in first.output
    assert "(diverged)" not in first.output
    second = tune(data, corpus, "--storage", storage, "--trials", "4")
    assert "Measured, 4 of 99" in second.output
    stored = invoke("recommend", "--storage", storage)
    assert stored.stdout == second.stdout[second.stdout.index("Measured, 4") :]


def test_resumed_equals_uninterrupted(data: str, corpus: Path, tmp_path: Path) -> None:
    outputs = []
    for name, steps in (("whole", ("4",)), ("parts", ("1", "3", "4"))):
        storage = f"sqlite:///{tmp_path}/{name}.db"
        for trials in steps:
            result = tune(data, corpus, "--storage", storage, "--trials", trials)
        outputs.append(result.stdout[result.stdout.index("Measured") :])
    assert outputs[0] == outputs[1]


def test_measurement_cap_is_kept(data: str, corpus: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    tune(data, corpus, "--trials", "3", "--measurement-cap", "2.8MB", "--json", file)
    measured = [c for c in json.loads(file.read_text())["configurations"] if c["measured"]]
    assert len(measured) == 3
    assert max(c["memory"] for c in measured) <= 2.8e6


def test_tune_refuses_to_mix_settings(data: str, corpus: Path, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    tune(data, corpus, "--storage", storage, "--trials", "1")
    result = tune(data, corpus, "--storage", storage, "--seed", "7", code=2)
    assert "measures with seed 0, not 7" in result.output


def test_collect_resumes(data: str, tmp_path: Path) -> None:
    output = tmp_path / "corpus.csv"
    command = ("collect", data, "--output", output, "--epochs", "1")
    first = invoke(*command, "--configuration", "1-4-3/1-6-7")
    assert "1 measurements, 1 of them made now" in first.output
    both = ("--configuration", "1-4-3/1-6-7", "--configuration", "1-3-1/1-8-11")
    assert "2 measurements, 1 of them made now" in invoke(*command, *both).output
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert [(row["format_a"], row["seed"], row["epochs"]) for row in rows] == [
        ("1-4-3", "0", "1"),
        ("1-3-1", "0", "1"),
    ]


def test_collected_corpus_tunes(data: str, tmp_path: Path) -> None:
    output = tmp_path / "corpus.csv"
    pairs = [f"1-{e}-{m}/1-{b}-7" for e in (3, 4) for m in (1, 2) for b in (6, 7)]
    options = [word for pair in pairs for word in ("--configuration", pair)]
    for learning_rate in ("0.001", "0.01"):
        options += ["--learning-rate", learning_rate]
    invoke("collect", data, "--output", output, "--epochs", "1", *options)
    result = tune(data, output, "--trials", "2", "--rank", "1")
    assert "Measured, 2 of 16 configurations" in result.output
    assert "learning_rate" in result.output


def test_memory_prints_every_configuration() -> None:
    lines = invoke("memory", "--network", "resnet18", "--image-size", "32").output.splitlines()
    rows = list(csv.DictReader(lines))
    assert len(rows) == 99
    for row in rows:
        parts = sum(int(row[name]) for name in ("weights", "activations", "optimizer"))
        assert int(row["total"]) == parts


BAD = {
    "data set": (["tune", "--data", "mnist"], "data set must be digits"),
    "network": (["tune", "--network", "alexnet"], "network must be one of plain3"),
    "storage": (["tune", "--storage", "tune.txt"], "storage must be a database URL"),
    "storage kind": (["tune", "--storage", "nosuch://x"], "cannot be opened"),
    "corpus": (["tune", "--corpus", "nosuch"], "a corpus that ships"),
    "corpus file": (["tune", "--corpus", "nosuch.csv"], "nosuch.csv"),
    "memory cap": (["tune", "--memory-cap", "much"], "a size must be"),
    "measurement cap": (["tune", "--measurement-cap", "1kB"], "the smallest needs"),
    "device": (["tune", "--device", "abacus"], "device must be"),
    "format": (["collect", "digits", "--configuration", "1-4/1-6-7"], "sign-exponent-mantissa"),
    "no pair": (["collect", "digits", "--configuration", "1-4-3"], "must be FORMAT_A/FORMAT_B"),
    "not ours": (["collect", "digits", "--configuration", "1-8-3/1-6-7"], "Table 3"),
    "npz": (["collect", "npz:nosuch.npz"], "nosuch.npz"),
    "small image": (["memory", "--network", "vgg11"], "at least 32x32"),
    "paper": (["memory", "--accounting", "paper"], "accounting 'paper' knows"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(
    name: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "tune" and "--corpus" not in arguments:
        arguments = [*arguments, "--corpus", str(corpus)]
    if arguments[0] == "collect":
        arguments = [*arguments, "--output", "out.csv"]
    result = invoke(*arguments, code=2)
    assert message in result.output
    assert result.output.startswith("Error: ")
    assert len(result.output.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_malformed_corpus_names_the_line(corpus: Path, tmp_path: Path) -> None:
    lines = corpus.read_text().splitlines()
    lines[6] = lines[6].replace("task0", "task0,oops", 1)
    bad = tmp_path / "bad.csv"
    bad.write_text("\n".join(lines) + "\n")
    result = invoke("tune", "--corpus", bad, code=2)
    assert "bad.csv" in result.output
    assert "line 7" in result.output


def test_empty_corpus(tmp_path: Path) -> None:
    bad = tmp_path / "empty.csv"
    bad.touch()
    assert "empty.csv" in invoke("tune", "--corpus", bad, code=2).output


def test_incomplete_corpus_names_how_many_are_missing(corpus: Path, tmp_path: Path) -> None:
    bad = tmp_path / "holes.csv"
    bad.write_text("\n".join(corpus.read_text().splitlines()[:-3]) + "\n")
    assert "3 of 396 entries are missing" in invoke("tune", "--corpus", bad, code=2).output


def test_corpus_of_what_tune_cannot_set(corpus: Path, tmp_path: Path) -> None:
    lines = corpus.read_text().splitlines()
    bad = tmp_path / "dropout.csv"
    rows = [line.replace(",", f",{rate},", 1) for rate in (0.1, 0.5) for line in lines[1:]]
    bad.write_text("\n".join([lines[0].replace(",", ",dropout,", 1), *rows]) + "\n")
    assert "dropout" in invoke("tune", "--corpus", bad, code=2).output


def test_recommend_needs_a_study(data: str, corpus: Path, tmp_path: Path) -> None:
    missing = invoke("recommend", "--storage", f"sqlite:///{tmp_path}/none.db", code=2)
    assert "does not exist" in missing.output
    assert not list(tmp_path.iterdir())
    storage = f"sqlite:///{tmp_path}/study.db"
    tune(data, corpus, "--storage", storage, "--trials", "1")
    other = invoke("recommend", "--storage", storage, "--study-name", "other", code=2)
    assert "there is no study 'other'" in other.output
    low = invoke("recommend", "--storage", storage, "--memory-cap", "1kB", code=2)
    assert "smallest memory" in low.output


def test_tune_leaves_a_foreign_study_alone(data: str, corpus: Path, tmp_path: Path) -> None:
    import optuna

    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(
        storage=storage, study_name="tune", directions=["minimize", "minimize"]
    )
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 1.0), n_trials=1)
    result = tune(data, corpus, "--storage", storage, code=2)
    assert "was not made by `tune`" in result.output
    assert len(optuna.load_study(storage=storage, study_name="tune").trials) == 1


def test_every_command_and_option_is_documented() -> None:
    commands: dict[str, Any] = getattr(typer.main.get_command(app), "commands")  # noqa: B009
    assert sorted(commands) == sorted(COMMANDS)
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    for name, command in commands.items():
        assert command.help
        assert f"optuna-peppp {name}" in (command.epilog or "")
        assert f"optuna-peppp {name}" in readme
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name}: {parameter.name} has no help"
