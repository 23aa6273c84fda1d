from __future__ import annotations

import warnings
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import ExperimentalWarning
from optuna.trial import create_trial
from sqlalchemy.exc import OperationalError

from optuna_peppp.storage import experimental, load_studies, open_storage

KINDS = ["sqlite:///{}/study.db", "{}/study.journal", "{}/study.log"]


def fill(storage: str, *names: str) -> None:
    opened = open_storage(storage, create=True)
    for number, name in enumerate(names):
        study = optuna.create_study(storage=opened, study_name=name)
        study.add_trial(create_trial(value=number / 10))


@pytest.mark.parametrize("kind", KINDS)
def test_studies_are_found_by_prefix_and_in_order(tmp_path: Path, kind: str) -> None:
    storage = kind.format(tmp_path)
    fill(storage, "plain3-fish", "resnet18-fish", "plain3-birds")
    assert [study.study_name for study in load_studies(storage)] == [
        "plain3-birds",
        "plain3-fish",
        "resnet18-fish",
    ]
    chosen = load_studies(storage, "plain3-")
    assert [study.best_value for study in chosen] == [0.2, 0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_wants_a_storage_and_makes_none(tmp_path: Path, kind: str) -> None:
    storage = kind.format(tmp_path)
    for read in (open_storage, load_studies):
        with pytest.raises(ValueError, match=r"there is no storage .*study\.\w+ does not exist"):
            read(storage)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_storage(tmp_path: Path) -> None:
    (tmp_path / "study.journal").mkdir()
    with pytest.raises(ValueError, match="there is no storage"):
        open_storage(f"{tmp_path}/study.journal")


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_storage(tmp_path: Path, kind: str) -> None:
    storage = kind.format(tmp_path)
    open_storage(storage, create=True)
    with pytest.raises(ValueError, match="holds no study; `optuna-peppp tune --storage` fills it"):
        load_studies(storage)


def test_a_prefix_that_matches_nothing(tmp_path: Path) -> None:
    storage = f"{tmp_path}/study.journal"
    fill(storage, *(f"task {number:02}" for number in range(12)))
    with pytest.raises(ValueError, match=r"starts with 'plain3'; there are task 00, .*09, \.\.\."):
        load_studies(storage, "plain3")


def test_a_reader_writes_no_tables_into_a_database_of_others(tmp_path: Path) -> None:
    path = tmp_path / "others.db"
    path.touch()
    with pytest.raises(ValueError, match="cannot be opened by Optuna: no such table"):
        load_studies(f"sqlite:///{path}")
    assert path.stat().st_size == 0


@pytest.mark.parametrize("create", [True, False])
def test_files_that_are_no_storage(tmp_path: Path, create: bool) -> None:
    for name in ("text.db", "text.journal"):
        (tmp_path / name).write_text("task,error\nfish,0.5\nbirds,0.4\n" * 99)
    with pytest.raises(ValueError, match="cannot be opened by Optuna: file is not a database"):
        open_storage(f"sqlite:///{tmp_path}/text.db", create=create)
    with pytest.raises(ValueError, match=r"text\.journal is not a journal of Optuna"):
        open_storage(f"{tmp_path}/text.journal", create=create)


@pytest.mark.parametrize(
    ("storage", "problem"),
    [
        ("tune.txt", "storage must be a database URL .* got 'tune.txt'"),
        ("nosuch://host/x", "Can't load plugin: sqlalchemy.dialects:nosuch. It must be a database"),
        ("postgresql+nosuch://host/x", "cannot be opened by Optuna: Can't load plugin"),
        ("://", "cannot be opened by Optuna: Could not parse"),
        ("sqlite:////nosuch/folder/study.db", "cannot be opened.*unable to open database file"),
        ("/nosuch/folder/study.journal", "No such file or directory"),
    ],
)
def test_storages_that_cannot_be_opened(storage: str, problem: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=problem) as caught:
        open_storage(storage, create=True)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModuleNotFoundError("No module named 'psycopg'"), "No module named 'psycopg'"),
        (OSError('could not translate host name "x"\nIs it running?'), "could not translate host"),
    ],
)
def test_the_reason_is_the_drivers(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that cannot be reached, without the network."""

    def fail(*_arguments: object, **_options: object) -> None:
        if isinstance(error, ImportError):
            raise ImportError("Failed to import DB access module") from error
        raise OperationalError("SELECT 1", {}, error) from error

    monkeypatch.setattr("optuna_peppp.storage.RDBStorage", fail)
    with pytest.raises(ValueError, match=f"'mysql://h/x' cannot be opened by Optuna: {reason}"):
        load_studies("mysql://h/x")


def test_experimental_silences_nothing_else() -> None:
    with experimental():
        warnings.warn("heartbeat", ExperimentalWarning, stacklevel=1)
        with pytest.raises(UserWarning):
            warnings.warn("other", UserWarning, stacklevel=1)


def test_a_password_is_never_shown() -> None:
    with pytest.raises(ValueError, match="cannot be opened") as caught:
        open_storage("postgresql+nosuch://me:secret@host/studies", create=True)
    assert "secret" not in str(caught.value)
