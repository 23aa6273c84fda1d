from __future__ import annotations

import csv
import importlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from optuna_peppp.configurations.precision import Precision

pytest.importorskip("matplotlib", reason="needs the extra benchmarks")

SPEED = Path(__file__).resolve().parents[1] / "benchmarks" / "speed"
CPU = torch.device("cpu")
COLUMNS = [
    "device",
    "threads",
    "network",
    "method",
    "rounding",
    "turns",
    "milliseconds",
    "least_milliseconds",
    "process_milliseconds",
    "ratio_to_float32_compiled",
    "ratio_to_float32_eager",
    "speedup_over_qpytorch",
]


@pytest.fixture(scope="module")
def training_step(speed: Callable[[str], ModuleType]) -> ModuleType:
    return speed("training_step")


@pytest.fixture(scope="module")
def contestants(training_step: ModuleType) -> ModuleType:
    return importlib.import_module("speed.step_contestants")


@pytest.fixture(scope="module")
def whole(training_step: ModuleType) -> ModuleType:
    return importlib.import_module("speed.whole_trainings")


@pytest.fixture(scope="module")
def rival(training_step: ModuleType) -> ModuleType:
    module = importlib.import_module("speed.qpytorch_step")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # ninja lies beside the interpreter, also where its environment is not activated.
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        warnings.simplefilter("ignore")
        missing = module.why_missing()
    if missing:
        pytest.skip(f"QPyTorch cannot be imported here: {missing}")
    return module


def trained(contestants: ModuleType, name: Any, steps: int = 3, **settings: Any) -> Tensor:
    entrant = contestants.contestant("plain3", name, CPU, **settings)
    entrant.train(steps)
    weights: Tensor = entrant.weights()
    return weights


def test_our_step_in_float32_is_the_plain_loop(contestants: ModuleType) -> None:
    start = trained(contestants, contestants.LOOP, 0)
    assert torch.equal(start, trained(contestants, contestants.EAGER, 0))
    loop = trained(contestants, contestants.LOOP)
    assert torch.equal(loop, trained(contestants, contestants.EAGER))
    assert not torch.equal(loop, start)


@pytest.mark.parametrize("formats", [("1-4-3", "1-6-9"), ("1-3-1", "1-8-11"), ("1-5-2", "1-7-7")])
def test_our_eager_step_is_that_of_qpytorch(
    contestants: ModuleType, rival: ModuleType, formats: tuple[str, str]
) -> None:
    precision = Precision.parse(*formats)
    nearest, stochastic = (
        trained(contestants, name, precision=precision) for name in contestants.QPYTORCH
    )
    ours = trained(contestants, contestants.REFERENCE[0], precision=precision)
    assert torch.equal(nearest, ours)
    assert not torch.equal(stochastic, ours)


def test_residual_networks_are_rounded_at_the_same_places(
    contestants: ModuleType, rival: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks, modules that work in place or are called twice, an identity; small, to be fast.
    monkeypatch.setitem(contestants.NETWORKS, "resnet18", 8)
    monkeypatch.setattr(contestants, "BATCH", 4)
    ours, theirs = contestants.REFERENCE[0], contestants.QPYTORCH[0]
    weights = []
    for name in (ours, theirs):
        entrant = contestants.contestant("resnet18", name, CPU)
        entrant.train(2)
        weights.append(entrant.weights())
    assert torch.equal(*weights)


FAKE_START = torch.zeros(4, dtype=torch.float64)


def fake(contestants: ModuleType, name: Any, precision: Precision, seed: int) -> Tensor:
    """Weights after a training, as they might be: compiled ones nearly as eager ones."""
    rounding = name[1]
    weights = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    if precision != contestants.PRECISION:
        weights *= 2
    if rounding == "stochastic":
        weights[1] = 0.2 if name[0] == "QPyTorch" else 0.3 * seed
    if "compiled" in name[0]:
        weights[2] = 0.01
    return weights


@pytest.fixture
def wrong(contestants: ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[Any, float]:
    """By how much the weights of a contestant and precision are off; to begin with, not at all."""
    errors: dict[Any, float] = {}

    class Entrant:
        def __init__(self, *arguments: Any) -> None:
            self.arguments, self.steps = arguments, 0

        def train(self, steps: int) -> None:
            self.steps += steps

        def weights(self) -> Tensor:
            if self.steps == 0:
                return FAKE_START
            name, precision, seed = self.arguments
            weights = fake(contestants, name, precision, seed)
            weights[3] += errors.get((name, str(precision)), 0.0)
            if not torch.backends.mkldnn.enabled:
                weights[3] += errors.get("order", 0.0)
            return weights

    def contestant(
        network: str,
        name: Any,
        device: torch.device,
        precision: Precision = contestants.PRECISION,
        seed: int = contestants.SEED,
    ) -> Entrant:
        return Entrant(name, precision, seed)

    monkeypatch.setattr(contestants, "contestant", contestant)
    return errors


def test_those_that_train_alike_pass(contestants: ModuleType, wrong: dict[Any, float]) -> None:
    found = contestants.check("plain3", CPU)
    moved = found.pop("moved")
    assert moved == float("inf")  # from zero
    assert found == pytest.approx(
        {
            "two seeds": 0.3,
            "other convolutions float32": 0,
            "other convolutions nearest": 0,
            "other convolutions stochastic": 0,
            "compiled float32": 0.01,
            "compiled nearest": 0.01,
            "compiled stochastic": 0.01,
            "QPyTorch stochastic": 0.2,
        }
    )


@pytest.mark.parametrize(
    ("name", "precision", "error", "message"),
    [
        (("PyTorch loop", None), 0, 1e-12, r"the plain loop and ours in float32 of plain3 differ"),
        (("float32 compiled", None), 0, 0.06, r"compiled and eager in float32 .*bound is 0\.05"),
        (("compiled", "nearest"), 0, 0.06, r"compiled and eager to nearest .*in 2 of 4 weights"),
        (("compiled", "nearest"), 0, float("nan"), r"compiled and eager to nearest .*by nan of"),
        (("compiled", "stochastic"), 0, 0.06, r"compiled and eager stochastically .*is 0\.05"),
        (("QPyTorch", "nearest"), 0, 1e-12, r"QPyTorch and ours to nearest 1-4-3 / 1-6-9 of"),
        (("QPyTorch", "nearest"), 1, 1e-12, r"QPyTorch and ours to nearest 1-3-1 / 1-8-11 of"),
        (("QPyTorch", "stochastic"), 0, 0.5, r"QPyTorch and ours stochastically .*is 0\.45"),
    ],
)
def test_one_that_trains_otherwise_is_found(
    contestants: ModuleType,
    wrong: dict[Any, float],
    name: Any,
    precision: int,
    error: float,
    message: str,
) -> None:
    wrong[name, str(contestants.PRECISIONS[precision])] = error
    with pytest.raises(RuntimeError, match=message):
        contestants.check("plain3", CPU)
    without = [known for known in contestants.NAMES if known not in contestants.QPYTORCH]
    if name[0] == "QPyTorch":
        assert "QPyTorch stochastic" not in contestants.check("plain3", CPU, without)
    if error < 1e-9:  # the order of sums on a GPU
        contestants.check("plain3", torch.device("cuda"))


def test_what_is_compiled_may_be_as_far_as_another_order(
    contestants: ModuleType, wrong: dict[Any, float]
) -> None:
    wrong["order"] = 0.4
    wrong[contestants.OURS[0], str(contestants.PRECISION)] = 0.3
    assert contestants.check("plain3", CPU)["other convolutions nearest"] == 0.4
    wrong[contestants.OURS[0], str(contestants.PRECISION)] = 0.5
    with pytest.raises(RuntimeError, match=r"compiled and eager to nearest .*bound is 0\.4"):
        contestants.check("plain3", CPU)


def test_other_convolutions_sum_otherwise(contestants: ModuleType) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 64, 8, 8, generator=generator)
    weights = torch.randn(8, 64, 3, 3, generator=generator)
    usual = torch.conv2d(images, weights)
    with contestants.other_convolutions(CPU):
        other = torch.conv2d(images, weights)
    assert not torch.equal(other, usual)
    assert torch.allclose(other, usual, rtol=1e-4, atol=1e-4)
    assert torch.equal(torch.conv2d(images, weights), usual)


def test_rows(training_step: ModuleType, contestants: ModuleType) -> None:
    """Of times that are known: a turn takes 1, 2 and 9 s in float32, as many times that else."""
    factors = {
        contestants.EAGER: 2,
        contestants.COMPILED: 1,
        contestants.OURS[1]: 4,
        contestants.QPYTORCH[1]: 40,
    }
    times = {
        name: [(factor * turn, factor * turn / 2) for turn in (1.0, 2.0, 9.0)]
        for name, factor in factors.items()
    }
    eager, compiled, ours, theirs = training_step.summary("vgg11", CPU, times)
    assert [list(row) for row in (eager, compiled, ours, theirs)] == [COLUMNS] * 4
    assert (eager["method"], eager["rounding"]) == ("float32 eager", "")
    assert (ours["method"], ours["rounding"], ours["turns"]) == ("compiled", "stochastic", 3)
    assert [ours[name] for name in COLUMNS[6:]] == [8000, 4000, 4000, 4, 2, 10]
    assert [compiled[name] for name in COLUMNS[9:]] == [1, 0.5, ""]
    assert [theirs[name] for name in COLUMNS[9:]] == [40, 20, 1]


def test_ratios_are_those_of_a_turn(training_step: ModuleType, contestants: ModuleType) -> None:
    # The machine was slow in the second turn, for all alike.
    times = {
        contestants.EAGER: [(1.0, 1.0), (10.0, 1.0), (1.0, 1.0)],
        contestants.COMPILED: [(1.0, 1.0), (10.0, 1.0), (1.0, 1.0)],
        contestants.OURS[0]: [(1.5, 1.0), (20.0, 1.0), (3.0, 1.0)],
    }
    assert training_step.summary("plain3", CPU, times)[2]["ratio_to_float32_eager"] == 2


def rows_of(contestants: ModuleType, names: Sequence[Any]) -> list[dict[str, Any]]:
    """In the order of the names 100, 200, ... ms; as many times compiled float32 by tenths."""
    rows = []
    for network, threads in (("plain3", 1), ("plain3", 2), ("resnet18", 2)):
        for place, (method, rounding) in enumerate(names, 1):
            speedup = 10 - place if rounding and contestants.QPYTORCH[0] in names else ""
            values = [100.0 * place, 90.0 * place, 100.0 * place, place / 2, place / 3, speedup]
            labels = ["cpu", threads, network, method, rounding or "", 3]
            rows.append(dict(zip(COLUMNS, [*labels, *values], strict=True)))
    return rows


def test_the_table(contestants: ModuleType) -> None:
    report = importlib.import_module("speed.step_report")
    lines = report.table(rows_of(contestants, contestants.NAMES)[:4]).splitlines()
    assert lines[2] == "| plain3 | 1 | PyTorch loop |  | 100.0 | 0.50 | 0.33 |  |"
    assert lines[5] == "| plain3 | 1 | compiled | nearest | 400.0 | 2.00 | 1.33 | 6.0 |"


def test_targets(contestants: ModuleType) -> None:
    report = importlib.import_module("speed.step_report")
    lines = report.verdicts(rows_of(contestants, contestants.NAMES)[:9])
    assert lines == [
        "plain3, 1 threads, nearest: 2.00 times float32 compiled, target 2: met",
        "plain3, 1 threads, nearest: 6.00 times QPyTorch's speed, target 4: met",
        "plain3, 1 threads, stochastic: 2.50 times float32 compiled, target 2: missed",
        "plain3, 1 threads, stochastic: 5.00 times QPyTorch's speed, target 4: met",
    ]
    without = rows_of(contestants, contestants.NAMES[:-2])[:7]
    assert [line.rpartition(" ")[2] for line in report.verdicts(without)] == ["met", "missed"]


@pytest.mark.parametrize("reference", [True, False], ids=["with QPyTorch", "without"])
def test_a_picture(contestants: ModuleType, tmp_path: Path, reference: bool) -> None:
    report = importlib.import_module("speed.step_report")
    names = contestants.NAMES if reference else contestants.NAMES[:-2]
    grown = [{"compiled_seconds": 1.0, "eager_seconds": 2.0} for _ in range(3)]
    report.draw(rows_of(contestants, names), grown if reference else [], tmp_path / "step.png")
    assert (tmp_path / "step.png").read_bytes().startswith(b"\x89PNG")


def test_a_measurement_is_projected_from_its_steps(
    whole: ModuleType, contestants: ModuleType
) -> None:
    names = [*contestants.OURS, contestants.QPYTORCH[1]]
    rows = whole.projected(rows_of(contestants, names))
    # 79 batches of 2,500 images, 10 epochs, 0.2 and 0.3 s a step.
    assert rows == [
        {"network": "resnet18", "method": "compiled", "threads": 2, "seconds_projected": 158.0},
        {"network": "resnet18", "method": "QPyTorch", "threads": 2, "seconds_projected": 237.0},
    ]


def test_every_configuration_trains_in_turn(
    whole: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def seconds(data: Any, device: str, backend: str, epochs: int, precision: Precision) -> float:
        asked.append((backend, str(precision)))
        return len(asked)

    compiled = count(5)
    monkeypatch.setattr(whole, "seconds", seconds)
    monkeypatch.setattr(whole, "graphs", lambda: next(compiled))
    rows = whole.growth("cpu", 8, 99)
    assert len(asked) == len(set(asked)) == 2 * 99
    assert rows[1] == {
        "training": 2,
        "compiled_seconds": 3,
        "eager_seconds": 4,
        "graphs": 6,
    }


def test_several_processes_train_at_once(
    whole: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that only waiting for a process moves: a second a training, half if alone."""
    now = 0.0
    asked: list[tuple[int, str, int]] = []

    class Pool:
        def __init__(self, threads: int, cache: str) -> None:
            self.threads, self.cache, self.left = threads, cache, 0

        def apply_async(self, function: Any, arguments: tuple[str, int, int]) -> Pool:
            assert function is whole.some
            asked.append((self.threads, self.cache, arguments[2]))
            self.left = arguments[2]
            return self

        def get(self) -> None:
            nonlocal now
            now += self.left / 2  # of two processes as of one with two threads

    @contextmanager
    def process(threads: int, cache: str) -> Iterator[Pool]:
        yield Pool(threads, cache)

    monkeypatch.setattr(whole, "process", process)
    monkeypatch.setattr(whole.time, "perf_counter", lambda: now)
    rows = whole.several_processes([(1, 2), (2, 1)], "cpu", 64, 6, 2, "plain3")
    assert rows == [
        {"processes": 1, "threads_each": 2, "trainings_per_second": 2.0},
        {"processes": 2, "threads_each": 1, "trainings_per_second": 2.0},
    ]
    once = [(2, "plain3-2"), (1, "plain3-1"), (1, "plain3-1")]
    assert asked == [(*who, trainings) for trainings in (2, 6, 6) for who in once]


@pytest.mark.slow
def test_stacked_networks(whole: ModuleType) -> None:
    facts = whole.stacked("cpu", 1)
    for backend in ("compiled", "eager"):
        alone, together = (facts[f"{backend}_{what}_milliseconds"] for what in ("one", "stacked"))
        assert facts[f"{backend}_gain"] == pytest.approx(4 * alone / together)


@pytest.mark.slow
def test_the_script(training_step: ModuleType, tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, str(SPEED / "training_step.py"), "--quick", "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    with (tmp_path / "training_step.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS
    results = json.loads((tmp_path / "training_step.json").read_text())
    assert {row["network"] for row in rows} == {"plain3"}
    assert {row["threads"] for row in rows} == {str(facts["threads"]) for facts in results["steps"]}
    for facts in results["steps"]:
        assert facts["recompilations"] == 0
        assert facts["empty_cache_compiled_nearest_seconds"] > 0
    assert results["recompilations_over_configurations"] == 0
    assert all(row["trainings_per_second"] > 0 for row in results["several_processes"])
    with (tmp_path / "training_step_growth.csv").open(newline="") as file:
        assert [row["training"] for row in csv.DictReader(file)] == ["1", "2", "3", "4", "5"]
    assert (tmp_path / "training_step.png").stat().st_size > 0
    assert "| network | threads | step |" in finished.stdout
