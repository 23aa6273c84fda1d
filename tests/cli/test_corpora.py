from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import create_trial
from typer.testing import Result

from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix, stack
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.studies.storage import open_storage

SPACE = ConfigurationSpace.paper()


def add_study(storage: str, name: str, errors: dict[int, float]) -> None:
    """A study of the paper's configurations that measured some of them."""
    study = optuna.create_study(
        storage=open_storage(storage, create=True),
        study_name=name,
        directions=["minimize", "minimize"],
    )
    study.add_trials(
        create_trial(
            params=SPACE.params(index),
            distributions=SPACE.distributions(),
            values=[error, 1000.0 + index],
        )
        for index, error in errors.items()
    )


@pytest.fixture
def storage(tmp_path: Path) -> str:
    """Two studies that measured everything between them, and one of something else."""
    storage = f"{tmp_path}/past.journal"
    for name, start in (("plain3-fish", 0), ("plain3-birds", 40)):
        add_study(storage, name, {index: 0.2 + index / 200 for index in range(start, start + 59)})
    other = optuna.create_study(storage=open_storage(storage, create=True), study_name="width")
    other.optimize(lambda trial: trial.suggest_int("width", 1, 9) / 9, n_trials=1)
    return storage


def test_fit_learns_from_studies_and_names_those_left_out(
    invoke: Callable[..., Result], storage: str, tmp_path: Path
) -> None:
    output = tmp_path / "learned.npz"
    result = invoke("fit", "--storage", storage, "--rank", "1", "--output", output)
    assert "Learned from 2 tasks and 99 configurations, 59.6% of their errors" in result.stdout
    assert f"optuna-peppp tune --meta {output}" in result.stdout
    assert result.stderr.startswith("Warning: left out: study 'width' must tune format_a, format_b")
    assert len(result.stderr.splitlines()) == 1
    meta = MetaModel.load(output)
    assert (meta.space, meta.rank) == (SPACE, 1)
    assert meta.tasks == ("plain3-birds", "plain3-fish")


def test_fit_takes_studies_by_prefix(
    invoke: Callable[..., Result], storage: str, tmp_path: Path
) -> None:
    output = tmp_path / "learned.npz"
    fit = ("fit", "--storage", storage, "--rank", "1", "--output", output)
    assert not invoke(*fit, "--study-prefix", "plain3-").stderr
    output.unlink()
    one = invoke(*fit, "--study-prefix", "plain3-f")
    assert "Learned from 1 task and 99 configurations, 59.6% of their errors" in one.stdout
    output.unlink()
    width = invoke(*fit, "--study-prefix", "w", code=2)
    assert "completed trials with categorical parameters" in width.stderr
    none = invoke(*fit, "--study-prefix", "resnet18-", code=2)
    assert "no study of" in none.stderr
    assert not output.exists()


def test_fit_says_what_was_never_measured(invoke: Callable[..., Result], tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/past.db"
    for name in ("fish", "birds"):
        add_study(storage, name, dict.fromkeys(range(98), 0.5))
    result = invoke("fit", "--storage", storage, "--output", tmp_path / "out.npz")
    assert "Of 99 configurations 1 were never measured on any of 2 past tasks" in result.stdout
    assert "format_a 1-5-3, format_b 1-8-11" in result.stdout
    assert "guessed" in result.stdout


def test_fit_combines_studies_and_corpora(
    invoke: Callable[..., Result], storage: str, corpus: Path, tmp_path: Path
) -> None:
    output = tmp_path / "learned.npz"
    add_study(storage, "task0", {5: 0.5})
    result = invoke("fit", "--storage", storage, "--corpus", corpus, "--output", output)
    assert "Learned from 6 tasks" in result.stdout
    assert "'width'" in result.stderr
    assert "cross-validation" in result.stdout
    twice = invoke("fit", "--corpus", corpus, "--corpus", corpus, "--output", output)
    assert "Learned from 4 tasks and 99 configurations, 100.0%" in twice.stdout
    np.testing.assert_array_equal(
        MetaModel.load(output).embeddings, MetaModel.fit(ErrorMatrix.read_csv(corpus)).embeddings
    )


def test_fit_learns_from_tune(
    tune: Callable[..., Result], invoke: Callable[..., Result], corpus: Path, tmp_path: Path
) -> None:
    storage = tmp_path / "past.journal"
    tune("--storage", storage, "--study-name", "bright", "--trials", "2")
    output = tmp_path / "learned.npz"
    result = invoke("fit", "--storage", storage, "--corpus", corpus, "--output", output)
    assert "Learned from 5 tasks" in result.stdout
    assert MetaModel.load(output).tasks[-1] == "bright"


def test_a_storage_alone_is_learned_from_and_tuned_with(
    tune: Callable[..., Result], invoke: Callable[..., Result], data: str, tmp_path: Path
) -> None:
    storage, output = tmp_path / "own.journal", tmp_path / "learned.npz"
    tune("--storage", storage, "--study-name", "first", "--trials", "2")
    learned = invoke("fit", "--storage", storage, "--output", output)
    assert "Of 99 configurations 97 were never measured on the one past task" in learned.stdout
    second = ("--storage", storage, "--study-name", "second", "--trials", "1", "--meta", output)
    result = invoke("tune", "--data", data, "--epochs", "1", *second)
    assert "Measured, 1 of 99 configurations" in result.stdout


def test_info_tells_what_a_corpus_holds(invoke: Callable[..., Result], corpus: Path) -> None:
    lines = invoke("corpus", "info", corpus).stdout.splitlines()
    assert "tasks            4: task0, task1, task2, task3" in lines
    assert "configurations   99: format_a (11), format_b (9)" in lines
    assert "observed         396 of 396 entries, 100.0%" in lines


def test_info_knows_the_corpora_that_ship(invoke: Callable[..., Result]) -> None:
    assert "networks         plain3" in invoke("corpus", "info", "plain3-cifar100").stdout


def test_merge_puts_rows_together(
    invoke: Callable[..., Result], corpus: Path, tmp_path: Path
) -> None:
    lines = corpus.read_text().splitlines()
    parts = [tmp_path / "a.csv", tmp_path / "b.csv"]
    parts[0].write_text("\n".join(lines[:200]))
    parts[1].write_text("\n".join([lines[0], *lines[150:]]))
    whole = tmp_path / "whole.csv"
    result = invoke("corpus", "merge", *parts, "--output", whole)
    assert f"{whole}: 396 measurements of 4 tasks and 99 configurations" in result.output
    assert whole.read_text().splitlines() == lines
    merged, (first, second) = ErrorMatrix.read_csv(whole), map(ErrorMatrix.read_csv, parts)
    np.testing.assert_array_equal(merged.errors, stack([first, second]).errors)


def test_settings_that_differ_are_tuned_in_what_is_merged(
    invoke: Callable[..., Result], corpus: Path, tmp_path: Path
) -> None:
    lines = corpus.read_text().splitlines()
    parts = []
    for rate in ("0.1", "0.01"):
        parts.append(tmp_path / f"{rate}.csv")
        rows = [line.replace(",", f",{rate},", 1) for line in lines[1:]]
        parts[-1].write_text("\n".join([lines[0].replace(",", ",learning_rate,", 1), *rows]))
    whole = tmp_path / "whole.csv"
    invoke("corpus", "merge", *parts, "--output", whole)
    space = ErrorMatrix.read_csv(whole).space
    assert space.names == ("learning_rate", "format_a", "format_b")
    assert space.choices["learning_rate"] == (0.01, 0.1)
    separate = ("fit", "--corpus", parts[0], "--corpus", whole, "--output", tmp_path / "m.npz")
    assert "`optuna-peppp corpus merge` makes one" in invoke(*separate, code=2).output


def test_merge_overwrites_no_input(
    invoke: Callable[..., Result], corpus: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_bytes(corpus.read_bytes())
    (tmp_path / "link.csv").symlink_to(mine)
    for output in (mine, tmp_path / "link.csv", tmp_path / ".." / tmp_path.name / "mine.csv"):
        result = invoke("corpus", "merge", corpus, mine, "--output", output, code=2)
        assert "is one of the files to merge" in result.output
    assert mine.read_bytes() == corpus.read_bytes()


def test_merge_writes_nothing_that_could_not_be_read(
    invoke: Callable[..., Result], corpus: Path, tmp_path: Path
) -> None:
    header, first, *_ = corpus.read_text().splitlines()
    other, whole = tmp_path / "other.csv", tmp_path / "whole.csv"
    *configuration, _, memory = first.split(",")
    other.write_text("\n".join([header, ",".join([*configuration, "0.9", memory])]))
    result = invoke("corpus", "merge", corpus, other, "--output", whole, code=2)
    assert "error 0.9 is too far from" in result.output
    assert f"{corpus}, line 2" in result.output
    assert not whole.exists()
