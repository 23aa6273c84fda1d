from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.harness.script import RESULTS
from benchmarks.harness.tables import read
from benchmarks.samplers import own_studies


def test_means_and_differences_by_hand() -> None:
    contestants, counts = len(own_studies.CONTESTANTS), len(own_studies.COUNTS)
    first = [[0.1 * place] * counts for place in range(contestants)]
    second = [[0.3 * place] * counts for place in range(contestants)]
    rows = list(own_studies.summary("table", [(first, [30, 20, 10]), (second, [40, 20, 0])]))
    assert len(rows) == contestants * counts
    three = next(r for r in rows if r["contestant"] == "bayesian" and r["studies"] == 3)
    place = own_studies.CONTESTANTS.index(("bayesian", 3))
    assert three["never_measured"] == 20
    assert three["regret"] == pytest.approx(0.2 * place)
    assert three["standard_error"] == pytest.approx(0.1 * place)
    # The cold start is the second: 0.1 and 0.3.
    assert three["more"] == pytest.approx(0.2 * (place - 1))
    assert three["more_standard_error"] == pytest.approx(0.1 * (place - 1))


def test_results_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own_studies.main(["--quick", "--output", str(tmp_path)])
    rows, kept = read(tmp_path / "own_studies.csv"), read(RESULTS / "own_studies.csv")
    assert list(rows[0]) == list(kept[0])
    assert {(row["contestant"], int(row["studies"])) for row in rows} == set(
        own_studies.CONTESTANTS
    )
    assert (tmp_path / "own_studies.png").stat().st_size > 10_000
    assert "48 configurations of plain3-cifar100" in capsys.readouterr().out


def test_three_studies_beat_a_cold_start() -> None:
    """What the committed results say."""
    for row in read(RESULTS / "own_studies.csv"):
        if (row["contestant"], row["studies"]) == ("bayesian", "3"):
            assert float(row["more"]) < 0, row
