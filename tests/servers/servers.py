"""Real servers on free ports of this machine, in temporary folders, that end with the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

PASSWORD: Final = "pass@w0rd/with%odd:characters"
"""Of every server that knows passwords."""

QUOTED: Final = "pass%40w0rd%2Fwith%25odd%3Acharacters"
"""The same as it stands in a URL."""

HOST: Final = "127.0.0.1"

_SECONDS: Final = 60.0
"""Within which a server starts or stops."""

_GUARD: Final = '"$@" & read -r _; kill -{signal} $!; wait $!'
"""A shell that stops the server when its own input ends, also because the tests were killed."""


def find_program(name: str, package: str) -> str:
    """The path of a server's program; skips the test where there is none."""
    found = shutil.which(name)
    if found is None:  # where Debian puts what has several versions
        versions = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
        found = max(map(str, versions), default=None)
    if found is None:
        pytest.skip(f"needs the program {name}; Debian has it in the package {package}")
    return found


class Server(ABC):
    """A server that can be stopped, and started again on the same port with the same data."""

    SIGNAL: ClassVar[str] = "TERM"
    """What makes it stop at once, whoever is connected."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind((HOST, 0))
            self.port: int = free.getsockname()[1]
        self.folder = Path(tempfile.mkdtemp(prefix="peppp-server-"))
        self.log = self.folder / "log"
        self.log.touch()
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root, and no server needs to
            nobody = pwd.getpwnam("nobody")
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        self._guard: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments."""

    @abstractmethod
    def ask(self) -> None:
        """Raises an error where the server does not answer."""

    def start(self) -> None:
        """Starts the server, and returns when it answers."""
        with self.log.open("ab") as log:
            self._guard = subprocess.Popen(
                ["sh", "-c", _GUARD.format(signal=self.SIGNAL), "sh", *self.command()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self._user,
            )
        deadline = time.monotonic() + _SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, f"{self.command()}:\n{self.log.read_text()}"
            time.sleep(0.05)

    def stop(self) -> None:
        """Stops the server, and returns when its process is gone."""
        if self._guard is not None:
            self._guard.communicate(timeout=_SECONDS)
            self._guard = None

    def restart(self, seconds: float) -> None:
        """Stops the server for a while."""
        self.stop()
        time.sleep(seconds)
        self.start()

    def close(self) -> None:
        """Stops the server and removes its data."""
        self.stop()
        shutil.rmtree(self.folder)

    def _answers(self) -> bool:
        try:
            self.ask()
        except Exception:  # each driver has its own
            return False
        return True


class PostgreSQL(Server):
    """A PostgreSQL server."""

    SIGNAL = "INT"  # TERM waits for those who are connected

    def __init__(self) -> None:
        initdb = find_program("initdb", "postgresql")
        self._program = find_program("postgres", "postgresql")
        super().__init__()
        options = "--auth=scram-sha-256 --username=peppp --no-locale --encoding=UTF8 --no-sync"
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        result = subprocess.run(
            [initdb, "--pgdata=data", f"--pwfile={secret}", *options.split()],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            **self._user,
        )
        assert result.returncode == 0, result.stdout + result.stderr

    def command(self) -> list[str]:
        settings = f"port={self.port} listen_addresses={HOST} unix_socket_directories= fsync=off"
        return [self._program, "-D", "data", *(f"--{each}" for each in settings.split())]

    def ask(self) -> None:
        self._execute("SELECT 1")

    def create(self, name: str) -> str:
        """Makes a database.

        Returns:
            Its URL.
        """
        self._execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, name: str, password: str = QUOTED) -> str:
        return f"postgresql+psycopg://peppp:{password}@{HOST}:{self.port}/{name}"

    def _execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(
            host=HOST,
            port=self.port,
            user="peppp",
            password=PASSWORD,
            dbname="postgres",
            autocommit=True,
        ) as connection:
            connection.execute(statement.encode())


class Redis(Server):
    """A Redis server that keeps its data in a file."""

    DATABASES: Final = 64

    def __init__(self) -> None:
        self._program = find_program("redis-server", "redis-server")
        super().__init__()

    def command(self) -> list[str]:
        options = f"--port {self.port} --bind {HOST} --appendonly yes --databases {self.DATABASES}"
        return [self._program, *options.split(), "--save", "", "--requirepass", PASSWORD]

    def ask(self) -> None:
        import redis

        with redis.Redis.from_url(self.url(0)) as connection:
            connection.ping()

    def url(self, database: int, password: str = QUOTED) -> str:
        return f"redis://:{password}@{HOST}:{self.port}/{database}"


class Proxy(Server):
    """Optuna's gRPC proxy of a database.

    Args:
        database: The database's URL.
    """

    _PROGRAM: Final = (
        "import sys; from optuna.storages import get_storage, run_grpc_proxy_server; "
        f"run_grpc_proxy_server(get_storage(sys.argv[1]), host='{HOST}', port=int(sys.argv[2]))"
    )

    def __init__(self, database: str) -> None:
        self._database = database
        super().__init__()
        self._user = {}  # this Python may be where nobody else looks

    def command(self) -> list[str]:
        return [sys.executable, "-c", self._PROGRAM, self._database, str(self.port)]

    def ask(self) -> None:
        with socket.create_connection((HOST, self.port)):
            pass

    @property
    def url(self) -> str:
        return f"grpc://{HOST}:{self.port}"


@dataclass(frozen=True, slots=True)
class Place:
    """An empty storage of a test's own.

    Attributes:
        url: As the command line takes it.
        server: Who keeps it.
    """

    url: str
    server: Server
