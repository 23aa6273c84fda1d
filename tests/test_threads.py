from __future__ import annotations

import os
from pathlib import Path

import pytest

from optuna_peppp.threads import chosen_threads, fitting_threads


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)


@pytest.mark.parametrize(
    ("load", "threads"), [(0.0, 6), (2.4, 6), (3.0, 5), (7.4, 1), (8.0, 1), (40.0, 1)]
)
def test_idle_cores_of_those_that_are_ours(load: float, threads: int, tmp_path: Path) -> None:
    assert fitting_threads(tmp_path, load) == threads


@pytest.mark.parametrize(
    ("quota", "threads"),
    [
        ("max 100000", 6),
        *(("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1)),
        *(("nonsense", 6), ("", 6), ("100000 0", 6)),
    ],
)
def test_the_quota_of_a_container(quota: str, threads: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert fitting_threads(tmp_path, 0.0) == threads


@pytest.mark.parametrize(("quota", "threads"), [("300000", 3), ("-1", 6)])
def test_the_quota_of_an_older_kernel(quota: str, threads: int, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert fitting_threads(tmp_path, 0.0) == threads


def test_what_is_asked_for_comes_first_and_then_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert chosen_threads(5) == chosen_threads(5, 2) == 5
    assert chosen_threads(None) is chosen_threads(None, 2) is None
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert chosen_threads(5, 2) == 5
    fitting = fitting_threads()
    assert chosen_threads(None) == fitting
    assert chosen_threads(None, 2) == max(1, fitting // 2)
    assert chosen_threads(None, 99) == 1
