from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from optuna_peppp.acquisition.strategies import STRATEGIES
from optuna_peppp.cli.evaluation import _table
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.evaluation.leave_one_out import Evaluation

TASKS = 100
"""Of the evaluation that is interrupted: enough to take longer than the signal."""


def test_evaluate_prints_means_and_writes_every_score(
    invoke: Callable[..., Result], corpus: Path, tmp_path: Path
) -> None:
    output = tmp_path / "scores.csv"
    result = invoke(
        *("evaluate", "--corpus", corpus, "--strategy", "ed-mf", "--strategy", "random-mf"),
        *("--measurements", "1,4", "--rank", "2", "--seed", "3", "--output", output),
    )
    matrix = ErrorMatrix.read_csv(corpus)
    strategies = {name: STRATEGIES[name] for name in ("ed-mf", "random-mf")}
    expected = list(Evaluation(matrix, strategies, measurements=(1, 4), rank=2, seed=3).run())
    with output.open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {name: str(value) for name, value in score.as_row().items()} for score in expected
        ]
    values = [s.quality.hyperdiff for s in expected if (s.strategy, s.measurements) == ("ed-mf", 4)]
    lines = result.stdout.splitlines()
    assert lines[0] == "Mean ± standard error over 4 tasks, by number of measurements"
    row = lines[next(i for i, line in enumerate(lines) if line.startswith("hyperdiff")) + 1]
    mean, error = np.mean(values), np.std(values, ddof=1) / 2
    assert row.split() == ["ed-mf", *row.split()[1:4], f"{mean:.4f}", "±", f"{error:.4f}"]


def test_evaluate_samples_and_caps(invoke: Callable[..., Result], corpus: Path) -> None:
    command = ("evaluate", "--corpus", corpus, "--strategy", "ed-mf", "--measurements", "3")
    plain = invoke(*command).stdout
    sampled = invoke(*command, "--fraction", "0.4", "--scheme", "memory").stdout
    capped = invoke(*command, "--memory-cap", "1500").stdout
    hidden = invoke(*command, "--measurement-cap", "1500").stdout
    both = invoke(*command, "--measurement-cap", "1500", "--memory-cap", "1800").stdout
    outputs = (plain, sampled, capped, hidden, both)
    assert len(set(outputs)) == 5
    assert [output.count("ed-mf") for output in outputs] == [6] * 5


def test_evaluate_takes_all_strategies(invoke: Callable[..., Result], corpus: Path) -> None:
    printed = invoke("evaluate", "--corpus", corpus, "--rank", "2", "--measurements", "2").stdout
    assert [printed.count(f"\n  {name} ") for name in STRATEGIES] == [6] * len(STRATEGIES)


def test_the_help_defines_what_is_printed(invoke: Callable[..., Result], corpus: Path) -> None:
    printed = invoke("evaluate", "--corpus", corpus, "--rank", "1").stdout
    shown = invoke("evaluate", "--help").stdout
    for line in printed.splitlines():
        if line and not line.startswith(("  ", "Mean")):
            assert f"{line.split()[0]}: " in shown


BAD = {
    "corpus": (["--corpus", "nosuch"], "a corpus that ships"),
    "file": (["--corpus", "nosuch.csv"], "nosuch.csv"),
    "measurements": (["--measurements", "1,x"], "numbers from 1, such as 1,3,6; got '1,x'"),
    "zero": (["--measurements", "0"], "numbers from 1"),
    "underscore": (["--measurements", "1_0"], "numbers from 1, such as 1,3,6; got '1_0'"),
    "wide digits": (["--measurements", "\uff11"], "numbers from 1"),
    "many digits": (["--measurements", "9" * 5000], "got '999"),
    "cap's digits": (["--memory-cap", "1_0GB"], "such as '275MB' or '1.5MiB'; got '1_0GB'"),
    "cap": (["--memory-cap", "10"], "memory_cap must leave"),
    "hidden": (["--measurement-cap", "10"], "measurement_cap must leave"),
    "fraction": (["--fraction", "2"], "fraction must be above 0 and at most 1"),
    "rank": (["--rank", "4"], "rank must be between 1 and 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(name: str, invoke: Callable[..., Result], corpus: Path) -> None:
    arguments, message = BAD[name]
    result = invoke("evaluate", "--corpus", corpus, *arguments, code=2)
    (line,) = result.output.splitlines()[-1:]
    assert line.startswith("Error: ")
    assert message in line


@pytest.mark.parametrize("option", ["--rank", "--seed", "--jobs", "--fraction"])
@pytest.mark.parametrize("text", ["1_0", "\uff11", "x", "nan", "", "1e999", "-1"])
def test_options_are_numbers_by_one_grammar(
    invoke: Callable[..., Result], corpus: Path, option: str, text: str
) -> None:
    result = invoke("evaluate", "--corpus", corpus, f"{option}={text}", code=2)
    assert option in result.output or "fraction must be above 0" in result.output


QUICK = ("--strategy", "qr-mf", "--rank", "1", "--measurements", "1")


@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), PermissionError(13, "no")]
)
def test_what_cannot_be_written_is_printed(
    invoke: Callable[..., Result],
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: OSError,
) -> None:
    printed = invoke("evaluate", "--corpus", corpus, *QUICK).stdout
    output = tmp_path / "scores.csv"
    output.write_text("before")

    def replace(path: Path, target: Path) -> None:
        raise failure

    monkeypatch.setattr(Path, "replace", replace)
    result = invoke("evaluate", "--corpus", corpus, *QUICK, "--output", output, code=2)
    assert result.stdout == printed
    assert result.stderr.endswith(f"Error: {failure}: '{output}'\n")
    assert output.read_text() == "before"
    assert list(tmp_path.iterdir()) == [output]


def test_what_nobody_reads_is_written(
    invoke: Callable[..., Result], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "scores.csv"

    def closed(text: str, *, err: bool = False) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("optuna_peppp.cli.evaluation.echo", closed)
    invoke("evaluate", "--corpus", corpus, *QUICK, "--output", output, code=1)
    assert len(output.read_text().splitlines()) == 5


def test_one_task_has_no_standard_error() -> None:
    row: dict[str, str | int | float] = {"task": "a", "strategy": "s", "measurements": 1}
    row |= {"seed": 0, "hyperdiff": 0.25}
    assert _table([row]).splitlines()[-1] == "  s                   0.2500"
    assert _table([row, {**row, "task": "b"}]).endswith("0.2500 ± 0.0000")


@pytest.mark.parametrize("tasks", [1, 2])
def test_too_few_tasks_are_one_sentence(
    tasks: int, invoke: Callable[..., Result], tmp_path: Path
) -> None:
    path = tmp_path / "corpus.csv"
    rows = [f"{task},1-4-{m},1-6-7,0.{m},{m}" for task in range(tasks) for m in (1, 2)]
    path.write_text("\n".join(["task,format_a,format_b,error,memory", *rows]) + "\n")
    result = invoke("evaluate", "--corpus", path, code=2)
    assert result.output == (
        "Error: matrix must hold at least three tasks, one to leave out and two to learn from; "
        f"got {tasks}\n"
    )


@pytest.mark.usefixtures("_hears_ctrl_c")
def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    corpus, output = tmp_path / "corpus.csv", tmp_path / "scores.csv"
    rng = np.random.default_rng(0)
    with corpus.open("w") as file:
        file.write("task,x,error,memory\n")
        for task in range(TASKS):
            for x in range(60):
                file.write(f"{task},{x},{rng.uniform():.3f},{x + 1}\n")
    command = [sys.executable, "-m", "optuna_peppp", "evaluate", "--corpus", str(corpus)]
    process = subprocess.Popen(
        [*command, "--strategy", "ed-mf", "--output", str(output), "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    shown = ""
    while not re.search(rf"[1-9]\d*/{TASKS}", shown):
        read = process.stderr.read(1)
        assert read, shown
        shown += read
    process.send_signal(signal.SIGINT)
    printed, told = process.communicate(timeout=30)
    assert process.returncode == 130, told
    assert "Interrupted" in told
    tasks = {row["task"] for row in csv.DictReader(output.read_text().splitlines())}
    assert 0 < len(tasks) < TASKS
    assert f"over {len(tasks)} tasks" in printed
