from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from optuna_peppp.configurations.formats import FloatFormat

pytest.importorskip("matplotlib", reason="needs the extra benchmarks")

SPEED = Path(__file__).resolve().parents[1] / "benchmarks" / "speed"
CPU = torch.device("cpu")
FORMAT = FloatFormat(4, 3)
EAGER = ("eager",)
COLUMNS = [
    "device",
    "threads",
    "format",
    "size",
    "method",
    "rounding",
    "turns",
    "microseconds",
    "least_microseconds",
    "gigabytes_per_second",
    "ratio_to_copy",
    "speedup_over_qpytorch",
]


@pytest.fixture(scope="module")
def quantizer(speed: Callable[[str], ModuleType]) -> ModuleType:
    return speed("quantizer")


@pytest.fixture
def backends(quantizer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What rounds under each name: to begin with, the eager backend under every one."""
    original = quantizer.quantize

    def eager(x: Tensor, fmt: FloatFormat, *arguments: Any) -> Tensor:
        rounded: Tensor = original(x, fmt, *arguments)
        return rounded

    named: dict[str, Any] = dict.fromkeys(quantizer.METHODS, eager)

    def quantize(x: Tensor, fmt: FloatFormat, *arguments: Any, backend: str) -> Tensor:
        rounded: Tensor = named[backend](x, fmt, *arguments)
        return rounded

    monkeypatch.setattr(quantizer, "quantize", quantize)
    return named


def rows_of(quantizer: ModuleType, sizes: tuple[int, ...] = (64, 1024)) -> list[dict[str, Any]]:
    """Everybody's, by what each takes: a copy 1, nearest 2, stochastic 4 and QPyTorch 100 more."""
    rows = []
    for threads in (1, 2):
        for size in sizes:
            for method, rounding in quantizer.STYLES:
                takes = {"": 1, "nearest": 2, "stochastic": 4}[rounding]
                values = [1.0, 1.0, 8.0, float(takes), 100 / takes if rounding else ""]
                names = ["cpu", threads, "1-4-3", size, method, rounding, 3]
                rows.append(dict(zip(COLUMNS, [*names, *values], strict=True)))
    return rows


def test_what_is_compared(quantizer: ModuleType) -> None:
    x = torch.tensor([0.3, 1000.0])
    running = quantizer.contestants(x, FORMAT, ("compiled", "eager"))
    assert list(running) == [name for name in quantizer.STYLES if name[0] != "qpytorch"]
    assert running["copy", ""]() is not x
    assert torch.equal(running["copy", ""](), x)
    assert running["eager", "nearest"]().tolist() == [0.3125, 480.0]
    assert running["eager", "stochastic"]().tolist()[0] in (0.28125, 0.3125)


def test_equal_answers_pass(quantizer: ModuleType, backends: dict[str, Any]) -> None:
    for fmt in quantizer.FORMATS:
        quantizer.check(fmt, CPU, quantizer.METHODS)


@pytest.mark.parametrize(
    ("backend", "rounding", "message"),
    [
        ("compiled", "nearest", r"compiled and eager nearest of 1-4-3 differ in 1 of 2097152"),
        ("compiled", "stochastic", r"compiled and eager stochastic of 1-4-3 differ in 1 of"),
        ("qpytorch", "nearest", r"ours and QPyTorch's nearest of 1-4-3 differ in 1 of"),
    ],
)
def test_one_other_number_is_found(
    quantizer: ModuleType, backends: dict[str, Any], backend: str, rounding: str, message: str
) -> None:
    eager = backends["eager"]

    def wrong(x: Tensor, fmt: FloatFormat, own: str = "nearest", *arguments: Any) -> Tensor:
        rounded: Tensor = eager(x, fmt, own, *arguments)
        if own == rounding:
            rounded[-1] = -rounded[-1]
        return rounded

    backends[backend] = wrong
    with pytest.raises(RuntimeError, match=message):
        quantizer.check(FORMAT, CPU, quantizer.METHODS)
    if backend == "qpytorch":
        quantizer.check(FORMAT, CPU, quantizer.METHODS[:2])


def test_zeros_of_other_signs_differ_and_nan_does_not(quantizer: ModuleType) -> None:
    nans = torch.tensor([0x7FC00000, 0x7F800001], dtype=torch.int32).view(torch.float32)
    quantizer._require_equal(nans, nans.flip(0), "two")
    with pytest.raises(RuntimeError, match="two differ in 1 of 2 numbers"):
        quantizer._require_equal(torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0]), "two")


def test_biased_stochastic_rounding_is_found(
    quantizer: ModuleType, backends: dict[str, Any]
) -> None:
    eager = backends["eager"]

    def pushed(x: Tensor, fmt: FloatFormat, *arguments: Any) -> Tensor:
        rounded: Tensor = eager(x + (x > 0.5) * 0.02 * 2.0**-fmt.mantissa, fmt, *arguments)
        return rounded

    backends["qpytorch"] = pushed
    with pytest.raises(RuntimeError, match=r"of 1\.0125.* to 1-4-3: .* have different means"):
        quantizer.check_stochastic(FORMAT, CPU)
    backends["qpytorch"] = lambda x, fmt, *_: eager(x, fmt)
    with pytest.raises(RuntimeError, match=r"to 1-4-3 does not go to both neighbours"):
        quantizer.check_stochastic(FORMAT, CPU)


def test_the_time_of_one_call(quantizer: ModuleType) -> None:
    done = []

    def call() -> Tensor:
        done.append(0)
        time.sleep(0.0005 if len(done) > 1 else first)
        return torch.empty(0)

    for first in (0.2, 0.0005):  # that of the first call does not count
        done.clear()
        assert 0.0005 <= quantizer.seconds(call, CPU) < 0.1
        assert len(done) == 2 if first > quantizer.TURN else len(done) > 2


def test_rows(quantizer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """From times that are known: of a copy 1 to 5 s, of rounding as many times that."""
    factors = {"copy": 1.0, "eager": 10.0, "qpytorch": 40.0}
    turns: dict[str, int] = {}

    def named(x: Tensor, *_: object) -> dict[tuple[str, str], Any]:
        return {
            (name, "" if name == "copy" else "nearest"): (lambda name=name: name)
            for name in factors
        }

    def seconds(call: Any, *_: object) -> float:
        name = call()
        turns[name] = turns.get(name, 0) + 1
        return factors[name] * turns[name]

    monkeypatch.setattr(quantizer, "contestants", named)
    monkeypatch.setattr(quantizer, "seconds", seconds)
    copy, eager, rival = quantizer.compare(1000, FORMAT, CPU, EAGER, 5)
    assert [list(row) for row in (copy, eager, rival)] == [COLUMNS] * 3
    assert (copy["microseconds"], eager["microseconds"]) == (3e6, 30e6)
    assert (copy["least_microseconds"], eager["least_microseconds"]) == (1e6, 10e6)
    assert (copy["ratio_to_copy"], eager["ratio_to_copy"]) == (1, 10)
    assert (copy["speedup_over_qpytorch"], eager["speedup_over_qpytorch"]) == ("", 4)
    # 4 bytes read and 4 written of each of 1000 numbers, in 3 s.
    assert copy["gigabytes_per_second"] == pytest.approx(8e3 / 3 / 1e9)
    assert (eager["format"], eager["size"], eager["turns"]) == ("1-4-3", 1000, 5)


def test_bandwidth_counts_reading_and_writing(
    quantizer: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizer, "seconds", lambda *_: 1e-6)
    assert quantizer.bandwidth(CPU, 1000) == pytest.approx(8)


def test_another_graph_is_counted(quantizer: ModuleType) -> None:
    def double(x: Tensor) -> Tensor:
        return x * 2

    before = quantizer.graphs()
    compiled = torch.compile(double, backend="eager")
    compiled(torch.ones(3))
    compiled(torch.ones(3))
    assert quantizer.graphs() == before + 1
    compiled(torch.ones(3, dtype=torch.float64))
    assert quantizer.graphs() == before + 2


def test_every_configuration_rounds_to_both_formats(
    quantizer: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, str]] = []
    monkeypatch.setattr(
        quantizer,
        "quantize",
        lambda x, fmt, rounding, *, backend: asked.append((str(fmt), rounding, backend)),
    )
    quantizer.every_configuration(CPU)
    assert len(asked) == 99 * 2 * 2
    assert len(set(asked)) == (11 + 9) * 2
    assert {backend for _, _, backend in asked} == {"compiled"}


def test_the_table_holds_one_size(quantizer: ModuleType) -> None:
    header, _, *lines = quantizer.table(rows_of(quantizer), 1024).splitlines()
    assert header.startswith("| threads | rounding | format | copy (us) | ours (us) |")
    assert lines == [
        f"| {threads} | {rounding} | 1-4-3 | 1.0 | 1.0 | {ratio:.2f} | {speedup} |"
        for threads in (1, 2)
        for rounding, ratio, speedup in (("nearest", 2, 50), ("stochastic", 4, 25))
    ]


@pytest.mark.parametrize("reference", [True, False], ids=["with QPyTorch", "without"])
def test_a_picture(quantizer: ModuleType, tmp_path: Path, reference: bool) -> None:
    rows = [row for row in rows_of(quantizer) if reference or row["method"] != "qpytorch"]
    for row in rows:
        row["speedup_over_qpytorch"] = row["speedup_over_qpytorch"] if reference else ""
    facts = [{"threads": threads, "bandwidth_gigabytes_per_second": 50.0} for threads in (1, 2)]
    quantizer.draw(rows, facts, tmp_path / "quantizer.png")
    assert (tmp_path / "quantizer.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_script(quantizer: ModuleType, tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, str(SPEED / "quantizer.py"), "--quick", "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    with (tmp_path / "quantizer.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS
    settings = json.loads((tmp_path / "quantizer.json").read_text())
    measured = settings["measured"]
    for facts in measured:
        assert facts["recompilations"] == 0
        assert (
            facts["compile_nearest_seconds"] > facts["overhead_compiled_nearest_microseconds"] / 1e6
        )
        assert facts["bandwidth_gigabytes_per_second"] > 0
    names = [
        name
        for name in quantizer.STYLES
        if name[0] != "qpytorch" or not measured[0]["qpytorch_left_out"]
    ]
    assert [(row["method"], row["rounding"]) for row in rows[: len(names)]] == names
    assert len(rows) == len(measured) * len(quantizer.QUICK) * len(quantizer.FORMATS) * len(names)
    assert (tmp_path / "quantizer.png").stat().st_size > 0
    assert "| threads | rounding | format |" in finished.stdout
