"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and of the authors' matrices."""
    if not _SHARED.is_dir():
        pytest.skip("needs the data folder ../shared/data beside the repository")
    return _SHARED
