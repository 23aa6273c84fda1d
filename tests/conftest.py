"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# Processes that test side by side have one thread each: more would wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# However busy the machine is: a step is compiled for a number of threads.
os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))

MARKED_FOLDERS = ("benchmarks", "servers")
"""Folders whose tests bear their name as a marker."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in MARKED_FOLDERS:
            item.add_marker(folder)


_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and of the authors' matrices."""
    if not _SHARED.is_dir():
        pytest.skip("needs the data folder ../shared/data beside the repository")
    return _SHARED


@pytest.fixture
def _hears_ctrl_c() -> Iterator[None]:
    """Lets child processes hear Ctrl-C, which a shell makes its background jobs ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
