from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.harness.tables import read
from benchmarks.speed import answers, families, quantizer, rivals
from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.lowprecision import quantize

CPU = torch.device("cpu")
FORMAT = FloatFormat(4, 3)
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


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What rounds under each name: to begin with, the eager backend under every one."""
    original = quantize

    def eager(x: Tensor, fmt: FloatFormat, *arguments: Any) -> Tensor:
        rounded: Tensor = original(x, fmt, *arguments)
        return rounded

    named: dict[str, Any] = dict.fromkeys(answers.METHODS, eager)

    def by_name(x: Tensor, fmt: FloatFormat, *arguments: Any, backend: str) -> Tensor:
        rounded: Tensor = named[backend](x, fmt, *arguments)
        return rounded

    monkeypatch.setattr(answers, "quantize", by_name)
    return named


def test_equal_answers_pass(backends: dict[str, Any]) -> None:
    for fmt in quantizer.FORMATS:
        answers.check(fmt, CPU, answers.METHODS)


@pytest.mark.parametrize(
    ("backend", "rounding", "message"),
    [
        ("compiled", "nearest", r"compiled and eager nearest of 1-4-3 differ in 1 of 2097152"),
        ("compiled", "stochastic", r"compiled and eager stochastic of 1-4-3 differ in 1 of"),
        ("qpytorch", "nearest", r"ours and QPyTorch's nearest of 1-4-3 differ in 1 of"),
    ],
)
def test_one_other_number_is_found(
    backends: dict[str, Any], backend: str, rounding: str, message: str
) -> None:
    eager = backends["eager"]

    def wrong(x: Tensor, fmt: FloatFormat, own: str = "nearest", *arguments: Any) -> Tensor:
        rounded: Tensor = eager(x, fmt, own, *arguments)
        if own == rounding:
            rounded[-1] = -rounded[-1]
        return rounded

    backends[backend] = wrong
    with pytest.raises(RuntimeError, match=message):
        answers.check(FORMAT, CPU, answers.METHODS)
    if backend == "qpytorch":
        answers.check(FORMAT, CPU, answers.METHODS[:2])


def test_zeros_of_other_signs_differ_and_nan_does_not() -> None:
    nans = torch.tensor([0x7FC00000, 0x7F800001], dtype=torch.int32).view(torch.float32)
    answers.require_equal(nans, nans.flip(0), "two")
    with pytest.raises(RuntimeError, match="two differ in 1 of 2 numbers"):
        answers.require_equal(torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0]), "two")


def test_biased_stochastic_rounding_is_found(backends: dict[str, Any]) -> None:
    eager = backends["eager"]

    def pushed(x: Tensor, fmt: FloatFormat, *arguments: Any) -> Tensor:
        rounded: Tensor = eager(x + (x > 0.5) * 0.02 * 2.0**-fmt.mantissa, fmt, *arguments)
        return rounded

    backends["qpytorch"] = pushed
    with pytest.raises(RuntimeError, match=r"of 1\.0125.* to 1-4-3: .* have different means"):
        answers.check_stochastic(FORMAT, CPU)
    backends["qpytorch"] = lambda x, fmt, *_: eager(x, fmt)
    with pytest.raises(RuntimeError, match=r"to 1-4-3 does not go to both neighbours"):
        answers.check_stochastic(FORMAT, CPU)


def test_every_configuration_rounds_to_both_formats(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.slow
def test_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quantizer.main(["--quick", "--output", str(tmp_path)])
    rows = read(tmp_path / "quantizer.csv")
    assert list(rows[0]) == COLUMNS
    settings = json.loads((tmp_path / "quantizer.json").read_text())
    measured = settings["measured"]
    assert settings["qtorch"]
    for facts in measured:
        assert facts["recompilations"] == 0
        overhead = facts["overhead_compiled_nearest_microseconds"]
        assert facts["compile_nearest_seconds"] > overhead / 1e6
        assert facts["bandwidth_gigabytes_per_second"] > 0
    names = [
        name
        for name in quantizer.STYLES
        if name[0] != "qpytorch" or not measured[0]["qpytorch_left_out"]
    ]
    assert [(row["method"], row["rounding"]) for row in rows[: len(names)]] == names
    assert len(rows) == len(measured) * len(quantizer.QUICK) * len(quantizer.FORMATS) * len(names)
    assert (tmp_path / "quantizer.png").stat().st_size > 0
    printed = capsys.readouterr().out
    assert "| threads | rounding | format |" in printed
    assert "| format | compiled, nearest (us) |" in printed
    every = read(tmp_path / "quantizer_families.csv")
    assert {row["format"] for row in every} == set(families.QUICK_NAMES)
    assert {(row["method"], row["rounding"]) for row in every} >= {families.COPY, *families.OURS}
    assert (tmp_path / "quantizer_families.png").stat().st_size > 0


@pytest.mark.parametrize("name", families.NAMES)
def test_others_round_the_same(name: str) -> None:
    x = families.numbers((16, 256), CPU)
    found = rivals.rivals(name)
    families.check(name, x, {(package, "nearest"): partial(f, x) for package, f in found.items()})


def test_who_rounds_otherwise_is_found() -> None:
    x = families.numbers((16, 256), CPU)
    with pytest.raises(RuntimeError, match="ours and another's mxfp4 differ"):
        families.check("mxfp4", x, {("another", "nearest"): lambda: x})
