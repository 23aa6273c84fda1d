"""Journals of Optuna that survive what happens to files and servers.

A journal is a list of entries, one a line, that is only ever appended to. A full disk or a power
cut leaves half a line at its end. Who appended to that would make one line of two, which nobody
can read, and lose the journal. So whoever writes looks at the end first, with the lock held, and
cuts what is no entry. Readers pass over it. Damage anywhere else is refused with its line.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from optuna.storages.journal import JournalFileBackend, JournalRedisBackend

_CHUNK: Final = 1 << 16
"""Bytes that are read at once in search of the end's line."""

_BEGINNING: Final = b'{"op_code":'
"""How every entry begins."""

_AT_ONCE: Final = 500
"""Entries that are asked of a server at once."""


class FileJournal(JournalFileBackend):
    """A journal file, with the lock and the lines of Optuna's own.

    Attributes:
        line: The line that was read last, or could not be; for messages.

    Args:
        path: The file; made where there is none.

    Raises:
        OSError: The file can be neither opened nor made.
    """

    def __init__(self, path: str) -> None:
        if Path(path).is_dir():
            raise IsADirectoryError(f"{path} is a folder, not a journal file")
        super().__init__(path)
        self.line = 0

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """All entries from one on; half a line at the end is passed over.

        Raises:
            ValueError: A line before the last is no entry.
        """
        entries = super().read_logs(log_number_from)
        self.line = log_number_from
        while True:
            self.line += 1
            try:
                entry = next(entries, None)
            except ValueError as problem:
                raise ValueError(
                    f"line {self.line} of {self._file_path} is no entry of a journal"
                ) from problem
            if entry is None:
                return
            yield entry

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends entries, after what is no entry at the end was cut.

        Raises:
            OSError: The file cannot be written; the error names it.
            ValueError: The file holds something else than a journal.

        Warns:
            UserWarning: Something was cut.
        """
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        try:
            with self._locked(), _opened(self._file_path) as file:
                cut = _mend(file, self._file_path)
                _write(file, lines.encode())
                os.fsync(file.fileno())
        except OSError as problem:
            raise OSError(problem.errno, problem.strerror, self._file_path) from problem
        if cut:
            warnings.warn(
                f"the end of {self._file_path} was no entry of a journal, as a full disk or a "
                f"power cut leaves it; its last {cut} bytes were cut, all entries before are kept",
                stacklevel=1,
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._lock.acquire()
        try:
            yield
        finally:
            # Who held it for half a minute has lost it to another; what was written is written.
            with suppress(RuntimeError):
                self._lock.release()


class RedisJournal(JournalRedisBackend):
    """A journal in Redis, with the keys of Optuna's own.

    Optuna's snapshots of the journal are pickles, which run what a stranger wrote to the server;
    they are neither written nor read.

    Args:
        url: Such as ``redis://host:6379/0``.

    Raises:
        ImportError: The package ``redis`` is missing.
        ValueError: The URL is none.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        from redis import Redis

        # The URL may give other times; older clients wait for ever by default.
        self._redis = Redis.from_url(url, socket_connect_timeout=10, socket_timeout=30)
        self._last: bytes | str | None = None
        """The entry that was read last."""

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """All entries from one on.

        Raises:
            ValueError: The server has lost entries, as one does that restarts from an old copy.
        """
        stored = self._redis.get(f"{self._prefix}:log_number")
        end = 0 if stored is None else int(stored) + 1
        if log_number_from:
            (before,) = self._redis.mget([self._key_log_id(log_number_from - 1)])
            if before is None or before != self._last:
                raise ValueError(
                    f"entry {log_number_from - 1} of the journal is not what it was: the Redis "
                    "server has lost data. Let it keep what it is told (appendonly yes)"
                )
        for start in range(log_number_from, end, _AT_ONCE):
            numbers = range(start, min(end, start + _AT_ONCE))
            entries = self._redis.mget([self._key_log_id(number) for number in numbers])
            for number, entry in zip(numbers, entries, strict=True):
                if entry is None:
                    raise ValueError(
                        f"entry {number} of the journal is missing: the Redis server has lost data"
                    )
                self._last = entry
                yield json.loads(entry)

    def load_snapshot(self) -> None:
        """Nothing: a snapshot is a pickle."""

    def save_snapshot(self, snapshot: bytes) -> None:
        """Writes nothing: a snapshot is a pickle."""


def _opened(path: str) -> IO[bytes]:
    """The file to be read, cut and appended to; unlike mode ``a+b``, this makes none."""
    return open(os.open(path, os.O_RDWR | os.O_APPEND), "r+b", buffering=0)  # noqa: PTH123


def _mend(file: IO[bytes], path: str) -> int:
    """Cuts the last line where it is no whole entry.

    Returns:
        How many bytes were cut.

    Raises:
        ValueError: There is nothing but that line, and it is no beginning of an entry either.
    """
    end = file.seek(0, os.SEEK_END)
    start, line = end, b""
    # The last line, with its own newline at most.
    while start and b"\n" not in line[:-1]:
        step = min(_CHUNK, start)
        start -= step
        file.seek(start)
        line = _read(file, step) + line
    line = line[line[:-1].rfind(b"\n") + 1 :]
    if not line or _is_entry(line):
        return 0
    text = line.rstrip(b"\0")
    if len(line) == end and not (text.startswith(_BEGINNING) or _BEGINNING.startswith(text)):
        raise ValueError(f"{path} holds something else than a journal of Optuna; name another file")
    file.truncate(end - len(line))
    return len(line)


def _is_entry(line: bytes) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n") and isinstance(entry, dict) and "op_code" in entry


def _read(file: IO[bytes], size: int) -> bytes:
    content = b""
    while len(content) < size and (more := file.read(size - len(content))):
        content += more
    return content


def _write(file: IO[bytes], content: bytes) -> None:
    while content:
        content = content[file.write(content) :]
