from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from optuna_peppp.studies import journal
from optuna_peppp.studies.journal import FileJournal, RedisJournal
from optuna_peppp.studies.storage import load_studies, open_storage

ENTRY = '{"op_code":4,"worker_id":"4f","study_id":0}'

TORN = [
    ENTRY[:1],
    ENTRY[:21],
    ENTRY,  # whole, but for its end
    ENTRY[:20] + "\n",
    "\0" * 4096,  # what a power cut leaves of a block
    '{"op_code":8,"user_attr":{"a":"' + "x" * 200_000,
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with two studies."""
    path = tmp_path / "tune.journal"
    opened = open_storage(str(path), create=True)
    for name in ("one", "other"):
        optuna.create_study(storage=opened, study_name=name)
    return path


def add_trial(path: Path) -> None:
    study = optuna.load_study(storage=open_storage(str(path), create=True), study_name="one")
    study.tell(study.ask(), 0.5)


@pytest.mark.parametrize("torn", TORN, ids=len)
def test_half_a_line_is_cut_before_the_first_is_appended(path: Path, torn: str) -> None:
    whole = path.read_bytes()
    with path.open("a") as file:
        file.write(torn)
    # Readers pass over it and leave it.
    assert [study.study_name for study in load_studies(str(path))] == ["one", "other"]
    assert path.read_bytes() == whole + torn.encode()
    with pytest.warns(UserWarning, match=rf"{path}.* last {len(torn)} bytes were cut") as warned:
        add_trial(path)
    assert len(warned) == 1
    assert path.read_bytes().startswith(whole)
    (study, _) = load_studies(str(path))
    assert [trial.value for trial in study.trials] == [0.5]
    for line in path.read_text().splitlines():
        json.loads(line)


def test_a_whole_journal_is_appended_to_as_optuna_does(path: Path) -> None:
    add_trial(path)
    before = path.read_bytes()
    JournalFileBackend(str(path)).append_logs([{"op_code": 4, "a": [1, 0.5]}])
    theirs = path.read_bytes().removeprefix(before)
    path.write_bytes(before)
    FileJournal(str(path)).append_logs([{"op_code": 4, "a": [1, 0.5]}])
    assert path.read_bytes() == before + theirs
    assert not [other for other in path.parent.iterdir() if other != path]  # the lock is free


def test_the_end_is_mended_with_the_lock_held(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    mend = journal._mend

    def watched(file: Any, name: str) -> int:
        seen.append(Path(f"{path}.lock").is_symlink())
        return mend(file, name)

    monkeypatch.setattr(journal, "_mend", watched)
    add_trial(path)
    assert seen
    assert all(seen)


def test_what_a_full_disk_tore_is_mended_by_the_same_process(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = path.read_bytes()

    def full(file: Any, content: bytes) -> None:
        file.write(content[:7])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened = JournalStorage(FileJournal(str(path)))
    study = optuna.load_study(storage=opened, study_name="one")
    with monkeypatch.context() as patch:
        patch.setattr(journal, "_write", full)
        with pytest.raises(OSError, match=rf"No space left on device: '{path}'"):
            study.ask()
    assert path.read_bytes() == whole + b'{"op_co'
    with pytest.warns(UserWarning, match="last 7 bytes were cut"):
        study.tell(study.ask(), 0.25)
    assert load_studies(str(path))[0].trials[0].value == 0.25


@pytest.mark.parametrize(
    ("line", "damage"),
    [
        (1, b"garbage\n"),
        (2, ENTRY[:20].encode() + ENTRY.encode() + b"\n"),
        (2, b"\0\0\0\n"),
        (3, b"5\n"),
        (3, b'{"no":"operation"}\n'),
        (3, b'{"op_code":99,"worker_id":""}\n'),
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_damage_elsewhere_is_refused_by_its_line_and_left(
    path: Path, line: int, damage: bytes, create: bool
) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines.insert(line - 1, damage)
    lines += [ENTRY.encode() + b"\n"] * 2  # of no study: readers pass over them
    content = b"".join(lines)
    path.write_bytes(content)
    message = rf"{path} is not a journal of Optuna, or it is damaged: line {line} is no entry"
    with pytest.raises(ValueError, match=message):
        open_storage(str(path), create=create)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", ["shopping: milk", "shopping: milk\n", '{"milk": 2}'])
def test_a_line_of_something_else_is_not_cut(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes.log"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"{path} holds something else than a journal"):
        optuna.create_study(storage=open_storage(str(path), create=True), study_name="one")
    assert path.read_text() == content


@pytest.mark.parametrize("content", ["", ENTRY[:5], "\0" * 10])
def test_what_may_have_become_a_journal_is_taken(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tune.journal"
    path.write_text(content)
    opened = open_storage(str(path), create=True)
    if content:
        with pytest.warns(UserWarning, match="were cut"):
            optuna.create_study(storage=opened, study_name="one")
    else:
        optuna.create_study(storage=opened, study_name="one")
    assert len(load_studies(str(path))) == 1


def test_a_folder_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "tune.journal").mkdir()
    with pytest.raises(IsADirectoryError, match=r"tune\.journal is a folder"):
        open_storage(str(tmp_path / "tune.journal"), create=True)


def test_a_journal_that_is_gone_is_not_begun_again(path: Path) -> None:
    study = optuna.load_study(storage=open_storage(str(path)), study_name="one")
    path.unlink()
    with pytest.raises(OSError, match=rf"storage {path} failed .*No such file"):
        study.ask()
    assert not path.exists()


class Server:
    """What of a Redis server a journal uses."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    def mget(self, keys: list[str]) -> list[bytes | None]:
        return [self.values.get(key) for key in keys]

    def setnx(self, key: str, value: int) -> None:
        self.values.setdefault(key, str(value).encode())

    def eval(self, _: str, __: int, prefix: str, entry: str) -> None:
        number = int(self.values[f"{prefix}:log_number"]) + 1
        self.values[f"{prefix}:log_number"] = str(number).encode()
        self.values[f"{prefix}:log:{number}"] = entry.encode()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    redis = pytest.importorskip("redis")
    one = Server()
    monkeypatch.setattr(redis.Redis, "from_url", lambda _, **settings: one)
    return one


def test_a_journal_in_redis(server: Server) -> None:
    storage = "redis://host:6379/0"
    one = optuna.create_study(storage=open_storage(storage, create=True), study_name="one")
    other = optuna.load_study(storage=open_storage(storage), study_name="one")
    for number in range(300):
        one.tell(one.ask(), number / 300)
    assert [trial.value for trial in other.trials] == [number / 300 for number in range(300)]
    # No pickles: whoever can write to the server could run code here.
    server.values[":snapshot"] = b"cos\nsystem\n(S'false'\ntR."
    assert len(load_studies(storage)[0].trials) == 300
    assert not any(value.startswith(b"\x80") for value in server.values.values())


@pytest.mark.parametrize("lost", ["everything", "the last", "one between"])
def test_a_server_that_lost_entries_is_noticed(server: Server, lost: str) -> None:
    study = optuna.create_study(storage=open_storage("redis://host", create=True))
    study.tell(study.ask(), 0.5)
    if lost == "everything":
        server.values.clear()
    elif lost == "the last":
        # Another worker has gone on from what an old copy holds.
        last = int(server.values[":log_number"])
        server.values[f":log:{last}"] = ENTRY.encode()
    else:
        server.values[":log_number"] = b"99"
    with pytest.raises(OSError, match="Redis server has lost data"):
        study.get_trials()


def test_the_entries_of_redis_are_optunas(server: Server) -> None:
    from optuna.storages.journal import JournalRedisBackend

    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        theirs, ours = JournalRedisBackend("redis://h"), RedisJournal("redis://h")
    ours.append_logs([{"op_code": 0}])
    theirs.append_logs([{"op_code": 1}])
    assert [*ours.read_logs(0)] == [*theirs.read_logs(0)] == [{"op_code": 0}, {"op_code": 1}]
