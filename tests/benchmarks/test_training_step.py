from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.harness.tables import read
from benchmarks.speed import contestants, qpytorch_step, training_step
from optuna_peppp.configurations.precision import Precision

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
def _rival() -> None:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # ninja lies beside the interpreter, also where its environment is not activated.
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        warnings.simplefilter("ignore")
        missing = qpytorch_step.why_missing()
    if missing:
        pytest.skip(f"QPyTorch cannot be imported here: {missing}")


def trained(name: Any, steps: int = 3, **settings: Any) -> Tensor:
    entrant = contestants.contestant("plain3", name, CPU, **settings)
    entrant.train(steps)
    weights: Tensor = entrant.weights()
    return weights


def test_our_step_in_float32_is_the_plain_loop() -> None:
    start = trained(contestants.LOOP, 0)
    assert torch.equal(start, trained(contestants.EAGER, 0))
    loop = trained(contestants.LOOP)
    assert torch.equal(loop, trained(contestants.EAGER))
    assert not torch.equal(loop, start)


def test_steps_of_recipes_are_trainings_of_their_own() -> None:
    answers = [trained(name) for name in (contestants.EAGER, *contestants.EAGER_HARDWARE)]
    assert len({tuple(answer.tolist()) for answer in answers}) == 4


@pytest.mark.usefixtures("_rival")
@pytest.mark.parametrize("formats", [("1-4-3", "1-6-9"), ("1-3-1", "1-8-11"), ("1-5-2", "1-7-7")])
def test_our_eager_step_is_that_of_qpytorch(formats: tuple[str, str]) -> None:
    precision = Precision.parse(*formats)
    nearest, stochastic = (trained(name, precision=precision) for name in contestants.QPYTORCH)
    ours = trained(contestants.REFERENCE[0], precision=precision)
    assert torch.equal(nearest, ours)
    assert not torch.equal(stochastic, ours)


@pytest.mark.usefixtures("_rival")
def test_residual_networks_are_rounded_at_the_same_places(monkeypatch: pytest.MonkeyPatch) -> None:
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


def fake(name: Any, precision: Precision, seed: int) -> Tensor:
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
def wrong(monkeypatch: pytest.MonkeyPatch) -> dict[Any, float]:
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
            weights = fake(name, precision, seed)
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


def test_those_that_train_alike_pass(wrong: dict[Any, float]) -> None:
    found = contestants.check("plain3", CPU)
    moved = found.pop("moved")
    assert moved == float("inf")  # from zero
    assert found == pytest.approx(
        {
            "two seeds": 0.3,
            "other convolutions float32": 0,
            "other convolutions nearest": 0,
            "other convolutions stochastic": 0,
            **{f"other convolutions {recipe}": 0 for recipe in contestants.RECIPES},
            "compiled float32": 0.01,
            "compiled nearest": 0.01,
            "compiled stochastic": 0.01,
            **{f"compiled {recipe}": 0.01 for recipe in contestants.RECIPES},
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
        (("nvfp4 compiled", None), 0, 0.06, r"compiled and eager in nvfp4 .*bound is 0\.05"),
        (("QPyTorch", "nearest"), 0, 1e-12, r"QPyTorch and ours to nearest 1-4-3 / 1-6-9 of"),
        (("QPyTorch", "nearest"), 1, 1e-12, r"QPyTorch and ours to nearest 1-3-1 / 1-8-11 of"),
        (("QPyTorch", "stochastic"), 0, 0.5, r"QPyTorch and ours stochastically .*is 0\.45"),
    ],
)
def test_one_that_trains_otherwise_is_found(
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


def test_what_is_compiled_may_be_as_far_as_another_order(wrong: dict[Any, float]) -> None:
    wrong["order"] = 0.4
    wrong[contestants.OURS[0], str(contestants.PRECISION)] = 0.3
    assert contestants.check("plain3", CPU)["other convolutions nearest"] == 0.4
    wrong[contestants.OURS[0], str(contestants.PRECISION)] = 0.5
    with pytest.raises(RuntimeError, match=r"compiled and eager to nearest .*bound is 0\.4"):
        contestants.check("plain3", CPU)


def test_other_convolutions_sum_otherwise() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 64, 8, 8, generator=generator)
    weights = torch.randn(8, 64, 3, 3, generator=generator)
    usual = torch.conv2d(images, weights)
    with contestants.other_convolutions(CPU):
        other = torch.conv2d(images, weights)
    assert not torch.equal(other, usual)
    assert torch.allclose(other, usual, rtol=1e-4, atol=1e-4)
    assert torch.equal(torch.conv2d(images, weights), usual)


def test_rows() -> None:
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


@pytest.mark.slow
def test_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training_step.main(["--quick", "--output", str(tmp_path)])
    rows = read(tmp_path / "training_step.csv")
    assert list(rows[0]) == COLUMNS
    results = json.loads((tmp_path / "training_step.json").read_text())
    assert {row["network"] for row in rows} == {"plain3"}
    assert {row["threads"] for row in rows} == {str(facts["threads"]) for facts in results["steps"]}
    for facts in results["steps"]:
        assert facts["recompilations"] == 0
        assert facts["empty_cache_compiled_nearest_seconds"] > 0
    assert results["recompilations_over_configurations"] == 0
    assert all(facts["compiled_seconds"] > 0 for facts in results["measurements"])
    grown = read(tmp_path / "training_step_growth.csv")
    assert [row["training"] for row in grown] == ["1", "2", "3", "4", "5"]
    assert (tmp_path / "training_step.png").stat().st_size > 0
    assert "| network | threads | step |" in capsys.readouterr().out
