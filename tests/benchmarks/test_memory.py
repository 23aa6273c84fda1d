"""The benchmark of memory: what it watches, and a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.memory import __main__ as memory

pytestmark = pytest.mark.benchmarks


def test_live_and_most_are_counted() -> None:
    with memory.Watch() as watch:
        x = torch.ones(1000)
        y = x + 1
        view = y[:10]
        assert watch.live == 8000
        del x
        assert watch.live == 4000
        del y
        assert watch.live == 4000  # of which a view is left
        del view
        assert watch.live == 0
    assert watch.most == 8000


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    memory.main(["--network", "plain3", "--output", str(tmp_path)])
    *_, worst, exact = capsys.readouterr().out.splitlines()
    assert worst.startswith("worst measured/computed: 1.0")
    assert exact == "bit-exact: 7 of 7"
    assert (tmp_path / "memory.json").is_file()
