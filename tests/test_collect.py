from __future__ import annotations

import contextlib
import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optuna_peppp import sampling
from optuna_peppp.collect import COLUMNS, Measurement, collect, plan
from optuna_peppp.lowprecision import Experiment
from optuna_peppp.matrix import ErrorMatrix
from optuna_peppp.sampling import Scheme
from optuna_peppp.space import ConfigurationSpace

SPACE = ConfigurationSpace(
    {
        "format_a": ["1-4-3", "1-5-3"],
        "format_b": ["1-6-7", "1-6-9"],
        "learning_rate": [0.1, 0.01],
    }
)
HEADER = ",".join(COLUMNS) + "\n"
KEY = ("task", "model", "format_a", "format_b", "learning_rate", "seed")


def experiment(folder: Path, name: str = "tiny", seed: int = 0) -> Experiment:
    """Noise in two classes and one epoch: a measurement takes a fraction of a second."""
    rng = np.random.default_rng(len(name))
    path = folder / f"{name}.npz"
    if not path.exists():
        np.savez(
            path,
            train_images=rng.integers(0, 256, (64, 8, 8), dtype=np.uint8),
            train_labels=np.arange(64) % 2,
            test_images=rng.integers(0, 256, (30, 8, 8), dtype=np.uint8),
            test_labels=np.arange(30) % 2,
        )
    return Experiment(f"npz:{path}", "plain3", image_size=8, epochs=1, seed=seed)


@pytest.fixture
def measurements(tmp_path: Path) -> list[Measurement]:
    """All eight configurations of one experiment."""
    return plan([experiment(tmp_path)], SPACE, range(len(SPACE)))


def rows(path: Path) -> list[dict[str, str]]:
    """What the file holds, without how long it took."""
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames or ()) == COLUMNS
        return [{k: v for k, v in row.items() if k != "seconds"} for row in reader]


def sorted_rows(path: Path) -> list[list[str]]:
    return sorted([*row.values()] for row in rows(path))


@pytest.mark.parametrize("scheme", ["uniform", "memory"])
def test_the_plan_may_be_a_sample(tmp_path: Path, scheme: Scheme) -> None:
    experiments = [experiment(tmp_path, f"data{i}") for i in range(6)]
    planned = plan(experiments, SPACE, range(8), fraction=0.25, scheme=scheme, seed=3)
    memory = np.array([one.memory(SPACE) for one in experiments]).astype(int)
    drawn = sampling.plan(memory, 0.25, scheme, 3)
    assert [(m.experiment, SPACE.index(m.params)) for m in planned] == [
        (experiments[row], column) for row, column in np.argwhere(drawn).tolist()
    ]
    assert {SPACE.index(m.params) for m in planned} == set(range(8))
    assert len(planned) < 48


def test_the_plan_holds_every_configuration_of_every_experiment(tmp_path: Path) -> None:
    first, second = experiment(tmp_path), experiment(tmp_path, "other", seed=3)
    second = replace(second, batch_size=8, rounding="nearest", image_size=None)
    planned = plan([first, second], SPACE, [0, 5])
    assert [m.experiment for m in planned] == [first, first, second, second]
    assert [m.params for m in planned] == [SPACE.params(0), SPACE.params(5)] * 2
    assert [int(m.row["memory"]) for m in planned[:2]] == first.memory(SPACE)[[0, 5]].tolist()
    memory = str(int(second.memory(SPACE)[5]))
    assert planned[3].row == {
        "task": "other",
        "model": "plain3",
        "format_a": "1-5-3",
        "format_b": "1-6-7",
        "learning_rate": "0.01",
        "memory": memory,
        "seed": "3",
        "epochs": "1",
        "rounding": "nearest",
        "batch_size": "8",
        "image_size": "16",
    }
    assert len({m.key for m in planned}) == 4


def test_a_corpus_is_collected(
    tmp_path: Path, measurements: list[Measurement], capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "corpus.csv"
    assert collect(measurements[:3], output) == 3
    content = output.read_bytes()
    assert content.startswith(HEADER.encode())
    assert content.endswith(b"\n")
    assert b"\r" not in content
    for row, measurement in zip(rows(output), measurements, strict=False):
        result = measurement.experiment.measure(measurement.params)
        assert row == measurement.row | {"error": f"{result.error:.6g}", "diverged": "0"}
    assert "3/3" in capsys.readouterr().err


def test_a_collected_corpus_is_an_error_matrix(
    tmp_path: Path, measurements: list[Measurement]
) -> None:
    output = tmp_path / "corpus.csv"
    collect(measurements, output)
    matrix = ErrorMatrix.read_csv(output, SPACE)
    assert matrix.tasks == ("tiny",)
    assert matrix.models == ("plain3",)
    assert bool(matrix.observed.all())
    assert matrix.memory[0].tolist() == [int(m.row["memory"]) for m in measurements]


def test_only_what_is_missing_is_measured(
    tmp_path: Path, measurements: list[Measurement], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "corpus.csv"
    assert collect(measurements[2:4], output) == 2
    before = output.read_bytes()
    measured: list[object] = []
    original = Experiment.measure

    def watched(self: Experiment, params: dict[str, object]) -> object:
        measured.append(params)
        return original(self, params)

    monkeypatch.setattr(Experiment, "measure", watched)
    assert collect(measurements[:4], output) == 2
    assert measured == [SPACE.params(0), SPACE.params(1)]
    assert output.read_bytes().startswith(before)
    assert collect(measurements[:4], output) == 0
    assert len(rows(output)) == 4
    # Another seed, task or network is another measurement, in the same file.
    others = [experiment(tmp_path, seed=1), experiment(tmp_path, "other")]
    assert collect(plan(others, SPACE, [0]), output) == 2
    assert [row["task"] + row["seed"] for row in rows(output)] == ["tiny0"] * 4 + [
        "tiny1",
        "other0",
    ]


def test_rows_are_written_one_by_one(
    tmp_path: Path, measurements: list[Measurement], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "corpus.csv"
    original = Experiment.measure
    held: list[int] = []

    def failing(self: Experiment, params: dict[str, object]) -> object:
        held.append(len(rows(output)))
        if len(held) == 3:
            raise KeyboardInterrupt
        return original(self, params)

    monkeypatch.setattr(Experiment, "measure", failing)
    with pytest.raises(KeyboardInterrupt):
        collect(measurements, output)
    assert held == [0, 1, 2]
    assert len(rows(output)) == 2


@pytest.fixture
def corpus(tmp_path: Path, measurements: list[Measurement]) -> Path:
    """A file with the first two measurements, without measuring."""
    path = tmp_path / "corpus.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for m in measurements[:2]:
            writer.writerow(m.row | {"error": "0.5", "diverged": "0", "seconds": "1.00"})
    return path


@pytest.mark.parametrize("kept", [1, 20, -2])
def test_a_line_that_was_cut_off_is_measured_again(
    corpus: Path, measurements: list[Measurement], kept: int
) -> None:
    whole = corpus.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    corpus.write_bytes(whole + last.replace(b"0.01", b"0.1")[:kept])
    assert collect(measurements[:2], corpus) == 0
    assert corpus.read_bytes() == whole
    # The second row itself cut off.
    corpus.write_bytes(whole[: -len(last)] + last[:kept])
    assert collect(measurements[:2], corpus) == 1
    assert [row["learning_rate"] for row in rows(corpus)] == ["0.1", "0.01"]
    assert rows(corpus)[0]["error"] == "0.5"


@pytest.mark.parametrize("content", ["", HEADER[:10], HEADER[:-1], HEADER])
def test_a_file_without_rows_is_begun_anew(
    tmp_path: Path, measurements: list[Measurement], content: str
) -> None:
    output = tmp_path / "corpus.csv"
    output.write_text(content)
    assert collect(measurements[:1], output) == 1
    assert len(rows(output)) == 1
    assert output.read_text().count("task,") == 1


def test_lines_of_other_programs_are_read_too(
    corpus: Path, measurements: list[Measurement]
) -> None:
    corpus.write_bytes(corpus.read_bytes().replace(b"\n", b"\r\n"))
    assert collect(measurements[:2], corpus) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"task,error\na,0.5\n", r"corpus.csv, line 1: columns must be task,model,"),
        (b"\n\n", r"corpus.csv, line 1: columns must be task,model,"),
        (b"\x89PNG\xff\n\x00\n", r"corpus.csv, line 1: columns must be task,model,"),
        (b"my notes", "corpus.csv is not a collected corpus; choose another output file"),
    ],
)
def test_foreign_files_are_refused_and_kept(
    tmp_path: Path, measurements: list[Measurement], content: bytes, message: str
) -> None:
    output = tmp_path / "corpus.csv"
    output.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        collect(measurements, output)
    assert output.read_bytes() == content


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",1,stochastic,", ",6,stochastic,", r"measured with epochs 6, not 1; ask for epochs 6"),
        (",stochastic,", ",nearest,", r"measured with rounding nearest, not stochastic"),
        (",stochastic,32,", ",stochastic,16,", r"measured with batch_size 16, not 32"),
        (",32,8,", ",32,16,", r"measured with image_size 16, not 8"),
        (",0,1.00", "", r"expected 14 fields; mend or remove it"),
        (",0,1.00", ",0,1.00,more", r"expected 14 fields; mend or remove it"),
    ],
)
def test_rows_that_do_not_fit_are_named(
    corpus: Path, measurements: list[Measurement], old: str, new: str, message: str
) -> None:
    lines = corpus.read_text().splitlines()
    assert old in lines[2]
    lines[2] = lines[2].replace(old, new)
    corpus.write_text("\n".join([lines[0], "", lines[1], lines[2], ""]))
    before = corpus.read_bytes()
    # An empty line counts, as an editor counts it.
    with pytest.raises(ValueError, match=rf"corpus\.csv, line 4: {message}"):
        collect(measurements, corpus)
    assert corpus.read_bytes() == before


def test_other_tasks_may_have_been_measured_otherwise(
    corpus: Path, measurements: list[Measurement]
) -> None:
    text = (
        corpus.read_text()
        .replace("tiny,", "large,")
        .replace(",1,stochastic,32,8", ",9,nearest,4,2")
    )
    corpus.write_text(text)
    assert collect(measurements[:1], corpus) == 1


def test_a_plan_that_repeats_itself_is_refused(
    tmp_path: Path, measurements: list[Measurement]
) -> None:
    output = tmp_path / "corpus.csv"
    with pytest.raises(ValueError, match=r"must differ; tiny, plain3, 1-4-3, .* is there 2 times"):
        collect([*measurements, measurements[0]], output)
    # Two data sets of one name would be averaged as if they were one.
    (tmp_path / "elsewhere").mkdir()
    both = [experiment(tmp_path), experiment(tmp_path / "elsewhere")]
    with pytest.raises(ValueError, match="must differ; tiny, plain3"):
        collect(plan(both, SPACE, [0]), output)
    assert not output.exists()


def test_bad_arguments(tmp_path: Path, measurements: list[Measurement]) -> None:
    with pytest.raises(ValueError, match="jobs must be at least 1; got 0"):
        collect(measurements, tmp_path / "corpus.csv", jobs=0)
    assert not (tmp_path / "corpus.csv").exists()


@pytest.mark.slow
def test_two_processes_measure_the_same(tmp_path: Path, measurements: list[Measurement]) -> None:
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    assert collect(measurements[:4], one) == 4
    assert collect(measurements[:4], two, jobs=2) == 4
    assert sorted_rows(one) == sorted_rows(two)


class Collector:
    """Another process that collects all of a plan of many seeds; it leads a process group."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self.output = folder / "corpus.csv"
        self.experiments = [experiment(folder, seed=seed) for seed in range(50)]
        code = (
            "from pathlib import Path\n"
            "from optuna_peppp.collect import collect, plan\n"
            "from optuna_peppp.lowprecision import Experiment\n"
            "from optuna_peppp.space import ConfigurationSpace\n"
            "if __name__ == '__main__':\n"
            f"    space = {SPACE!r}\n"
            f"    plan = plan({self.experiments!r}, space, range(len(space)))\n"
            f"    collect(plan, Path({str(self.output)!r}), jobs={jobs})\n"
        )
        script = folder / "collector.py"
        script.write_text(code)
        # Its errors go to a file: a full pipe would stop it.
        self.errors = (folder / "errors.txt").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stderr=self.errors, start_new_session=True
        )

    def wait_for(self, count: int) -> None:
        """Until that many rows are on disk."""
        deadline = time.monotonic() + 300
        while self.on_disk() < count:
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def on_disk(self) -> int:
        content = self.output.read_bytes() if self.output.exists() else b""
        return max(content.count(b"\n") - 1, 0)

    def said(self) -> str:
        self.errors.seek(0)
        return self.errors.read()

    def wait_for_all(self) -> None:
        """Until no process of the group is left."""
        self.process.wait(60)
        deadline = time.monotonic() + 60
        while True:
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return
            assert time.monotonic() < deadline, "a worker outlived its collector"
            time.sleep(0.05)


@pytest.fixture(params=[1, 2])
def collector(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Collector]:
    """A running collection, with one and with two jobs."""
    running = Collector(tmp_path, request.param)
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait()
        running.errors.close()


def check_and_complete(collector: Collector) -> None:
    """Every whole line is a measurement; going on measures exactly what is missing."""
    content = collector.output.read_text()
    whole = content[: content.rfind("\n") + 1]
    held = [*csv.DictReader(io.StringIO(whole))]
    assert 3 <= len(held) < len(collector.experiments) * len(SPACE)
    assert not any(None in row or None in row.values() for row in held)
    done = {tuple(row[name] for name in KEY) for row in held}
    assert len(done) == len(held)
    # Not all that is left: the seeds of the interruption and the next one.
    last = max(int(row["seed"]) for row in held)
    planned = plan(collector.experiments[: last + 2], SPACE, range(len(SPACE)))
    missing = [m for m in planned if m.key not in done]
    assert collect(planned, collector.output) == len(missing) > 0
    assert collector.output.read_text().startswith(whole)
    now = {tuple(row[name] for name in KEY) for row in rows(collector.output)}
    assert now == {m.key for m in planned}


@pytest.mark.slow
@pytest.mark.usefixtures("_hears_ctrl_c")
def test_ctrl_c_loses_only_what_is_running(collector: Collector) -> None:
    collector.wait_for(3)
    # The terminal sends it to every process of the group.
    os.killpg(collector.process.pid, signal.SIGINT)
    collector.wait_for_all()
    assert collector.process.returncode not in (0, -signal.SIGKILL)
    assert "KeyboardInterrupt" in collector.said()
    check_and_complete(collector)


@pytest.mark.slow
def test_a_kill_loses_only_what_is_running(collector: Collector) -> None:
    collector.wait_for(3)
    # Only the process itself: its workers have to notice.
    collector.process.kill()
    collector.wait_for_all()
    check_and_complete(collector)
