from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from optuna_peppp.configurations.names import SCHEDULES, Schedule
from optuna_peppp.lowprecision import load_dataset, train
from optuna_peppp.lowprecision.training.batches import Batches
from optuna_peppp.lowprecision.training.schedules import FACTORS


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
@pytest.mark.parametrize("steps", [10, 137])
def test_step_sizes_are_those_of_torch(schedule: Schedule, steps: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3, momentum=0.9)
    scheduler: Any = (
        CosineAnnealingLR(optimizer, T_max=steps)
        if schedule == "cosine"
        else OneCycleLR(optimizer, max_lr=0.3, total_steps=steps)
    )
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    computed = [0.3 * FACTORS[schedule](step, steps) for step in range(steps)]
    assert computed == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_few_steps_have_step_sizes(schedule: Schedule, steps: int) -> None:
    factors = [FACTORS[schedule](step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    # The peak of a cycle may lie between two steps.
    assert max(factors) > 0.95


def test_a_training_follows_its_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step once, over all epochs; the reference is plain torch."""
    data = load_dataset("digits", image_size=4)
    asked: list[tuple[int, int]] = []

    def spy(step: int, steps: int) -> float:
        asked.append((step, steps))
        return 1 - step / steps

    monkeypatch.setitem(FACTORS, "cosine", spy)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 10))
    reference = copy.deepcopy(model)
    size = 700
    settings: dict[str, Any] = {"epochs": 2, "batch_size": size, "learning_rate": 0.1}
    train(model, data, None, schedule="cosine", backend="eager", **settings)
    batches, order = Batches(data, torch.device("cpu")), torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    steps = 2 * batches.steps(size)
    assert asked == [(step, steps) for step in range(steps)]
    taken = 0
    for _ in range(2):
        for images, labels in batches.shuffled(size, order):
            optimizer.param_groups[0]["lr"] = 0.1 * (1 - taken / steps)
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(
                reference(batches.standardized(images)), labels
            )
            torch.autograd.backward(loss)
            optimizer.step()
            taken += 1
    for own, expected in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, expected)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 7, 1436, 1437, 2000])
def test_batches_are_counted(batch_size: int) -> None:
    batches = Batches(load_dataset("digits", image_size=2), torch.device("cpu"))
    order = torch.Generator().manual_seed(0)
    assert batches.steps(batch_size) == sum(1 for _ in batches.shuffled(batch_size, order))
