from __future__ import annotations

import io
import time

import pytest
from tqdm import tqdm

from optuna_peppp.studies import bar as module
from optuna_peppp.studies.bar import EpochBar, in_a_line


def test_compiling_is_named_once_and_left_out_of_the_estimate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    inner = tqdm(
        total=4, file=io.StringIO(), mininterval=0, smoothing=0, bar_format="{desc}|{remaining}"
    )
    inner._time = lambda: now  # type: ignore[attr-defined]
    bar = EpochBar(inner)
    bar.expect(4)
    bar.begin("1-4-3 / 1-6-7")
    assert str(inner) == "1-4-3 / 1-6-7 (compiling, once): |?"
    now += 60
    bar.epoch(1)
    now += 2
    bar.epoch(2)
    assert str(inner) == "1-4-3 / 1-6-7: |00:04"
    bar.begin("1-3-1 / 1-6-7")
    bar.expect(5)
    assert str(inner) == "1-3-1 / 1-6-7: |00:10"


def test_no_bar_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with EpochBar.of(2) as bar:
        bar.begin("a")
        bar.epoch(1)
        module.say("line")
    assert capsys.readouterr() == ("", "line\n")


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (RuntimeError("CUDA out of memory.\nTried"), "RuntimeError: CUDA out of memory."),
        (MemoryError(), "MemoryError"),
        (RuntimeError("a\x1b[2J"), "RuntimeError: a\\x1b[2J"),
    ],
)
def test_why_a_training_failed_in_a_line(problem: Exception, line: str) -> None:
    assert in_a_line(problem) == line
