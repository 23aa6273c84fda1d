from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from optuna_peppp.configurations.precision import Precision
from optuna_peppp.lowprecision import (
    ImageData,
    RoundingScheme,
    TrainingResult,
    load_dataset,
    quantize,
    train,
)
from optuna_peppp.lowprecision.rounding.quantize import ROUNDINGS, Rounding
from optuna_peppp.lowprecision.training.devices import resolve_device
from optuna_peppp.lowprecision.training.randomness import RandomStreams

PRECISION = Precision.parse("1-4-3", "1-6-9")
FLOAT32 = Precision.parse("1-8-23", "1-8-23")


def blobs(per_class: int = 24, classes: int = 3, seed: int = 0) -> ImageData:
    """Noisy copies of one image per class, sorted by class as files often are."""
    generator = torch.Generator().manual_seed(seed)
    prototypes = torch.rand(classes, 1, 6, 6, generator=generator) * 255

    def part(count: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(classes).repeat_interleave(count)
        noise = 60 * torch.randn(len(labels), 1, 6, 6, generator=generator)
        return (prototypes[labels] + noise).clamp(0, 255).to(torch.uint8), labels

    return ImageData("blobs", *part(per_class), *part(20), classes)


def network(classes: int = 3, dropout: float = 0.0) -> nn.Module:
    with RandomStreams(0).lent():
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(144, classes),
        )


def run(
    model: nn.Module, data: ImageData, precision: Precision | None, **settings: Any
) -> TrainingResult:
    """A training with small settings; eager, for tensors this small are not worth compiling."""
    small: dict[str, Any] = {"learning_rate": 0.05, "epochs": 3, "batch_size": 16}
    return train(model, data, precision, **small | {"backend": "eager"} | settings)


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_the_same_arguments_give_the_same_result(rounding: Rounding) -> None:
    data, scheme = blobs(), RoundingScheme(rounding=rounding)
    models = [network(dropout=0.2) for _ in range(3)]
    results = []
    with torch.random.fork_rng([]):
        for model, seed in zip(models, (0, 0, 1), strict=True):
            results.append(run(model, data, PRECISION, seed=seed, scheme=scheme))
            torch.rand(3)  # what others draw does not matter
    first, second, third = map(weights, models)
    assert results[0] == results[1]
    assert all(map(torch.equal, first, second))
    assert not any(map(torch.equal, first, third))


def test_the_global_random_state_is_untouched() -> None:
    state = torch.random.get_rng_state()
    run(network(dropout=0.2), blobs(), PRECISION, scheme=RoundingScheme(rounding="stochastic"))
    assert torch.equal(torch.random.get_rng_state(), state)


def process_states() -> list[Any]:
    """All that a training could leave changed for others."""
    legacy: Any = np.random.get_state()  # noqa: NPY002
    flags = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
    draws = torch.get_rng_state().tolist(), random.getstate(), legacy[1].tolist(), legacy[2:]
    return [flags, *draws]


class Restless(nn.Module):
    """Draws from everything that can be drawn from, in training and in testing."""

    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(36, 9), nn.Linear(9, 3)
        self.fails_at, self.passes = fails_at, 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        if self.passes == self.fails_at:
            raise RuntimeError("out of memory")
        x = nn.functional.dropout(self.first(x.flatten(1)), 0.3)
        if random.random() < 0.5:
            x = torch.relu(x)
        logits: Tensor = self.last(x) * float(np.random.rand())  # noqa: NPY002
        return logits


def restless(fails_at: int | None = None) -> nn.Module:
    with RandomStreams(0).lent():
        return Restless(fails_at)


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("build", [restless, lambda: network(dropout=0.4)])
def test_threads_train_as_they_would_alone(build: Callable[[], nn.Module], threads: int) -> None:
    def trained(seed: int) -> tuple[list[Tensor], TrainingResult]:
        model = build()
        result = run(model, blobs(), PRECISION, seed=seed)
        return weights(model), result

    before = process_states()
    alone = [trained(seed % 2) for seed in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        together = list(pool.map(lambda seed: trained(seed % 2), range(threads)))
    for (ours, result), (theirs, expected) in zip(together, alone, strict=True):
        assert all(map(torch.equal, ours, theirs))
        assert result == expected
    assert not any(map(torch.equal, alone[0][0], alone[1][0]))
    assert process_states() == before


@pytest.mark.parametrize("fails_at", [None, 1, 7])
def test_the_process_is_left_as_it_was(fails_at: int | None) -> None:
    """During ``on_epoch``, afterwards and after an error."""
    before = process_states()
    model = restless(fails_at)
    seen: list[Any] = []
    with pytest.raises(RuntimeError, match="out of memory") if fails_at else nullcontext():
        run(model, blobs(), PRECISION, on_epoch=lambda epoch: seen.append(process_states()))
    assert process_states() == before
    assert len(seen) == (3 if fails_at is None else fails_at > 5)
    assert all(state == before for state in seen)


def test_what_on_epoch_draws_does_not_matter() -> None:
    def draw(epoch: int) -> None:
        torch.rand(epoch)
        random.random()
        np.random.rand()  # noqa: NPY002

    first, second = restless(), restless()
    run(first, blobs(), PRECISION)
    with RandomStreams(5).lent():
        run(second, blobs(), PRECISION, on_epoch=draw)
    assert all(map(torch.equal, weights(first), weights(second)))


def standardized(data: ImageData) -> tuple[Tensor, Tensor]:
    pixels = data.train_images.double()
    mean, std = pixels.mean((0, 2, 3)).float(), pixels.transpose(0, 1).flatten(1).std(1).float()
    train, test = (
        (images.float() - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
        for images in (data.train_images, data.test_images)
    )
    return train, test


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_without_a_precision_it_is_a_plain_loop(name: str) -> None:
    data, model = blobs(), network()
    result = run(model, data, None, optimizer=name, momentum=0.8, weight_decay=0.01, seed=3)
    plain = network()
    settings: dict[str, Any] = {"lr": 0.05, "weight_decay": 0.01}
    if name == "sgd":
        settings["momentum"] = 0.8
    build = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    optimizer = build(plain.parameters(), **settings)
    images, test_images = standardized(data)
    order = torch.Generator().manual_seed(3)
    errors = []
    for _ in range(3):
        plain.train()
        for batch in torch.split(torch.randperm(len(images), generator=order), 16):
            optimizer.zero_grad()
            torch.autograd.backward(cross_entropy(plain(images[batch]), data.train_labels[batch]))
            optimizer.step()
        plain.eval()
        with torch.no_grad():
            wrong = plain(test_images).argmax(1) != data.test_labels
        errors.append(float(wrong.double().mean()))
    assert result == TrainingResult(sum(errors) / 3, tuple(errors), False, 3)
    assert all(map(torch.equal, weights(model), weights(plain)))


def test_with_all_of_float32s_bits_it_stays_close_to_float32() -> None:
    data, rounded, plain = blobs(), network(), network()
    results = [run(rounded, data, FLOAT32), run(plain, data, None)]
    torch.testing.assert_close(weights(rounded), weights(plain), rtol=1e-3, atol=1e-4)
    assert results[0].error == pytest.approx(results[1].error, abs=0.05)
    assert results[1].error < 0.2


def test_parameters_end_as_accumulators() -> None:
    model = network()
    run(model, blobs(), PRECISION, epochs=1)
    for parameter in weights(model):
        assert torch.equal(quantize(parameter, PRECISION.format_b), parameter)
    assert not any(
        torch.equal(quantize(parameter, PRECISION.format_a), parameter)
        for parameter in weights(model)
    )


class Watched(nn.Module):
    """A linear classifier that keeps the batches it was trained on."""

    def __init__(self, pixels: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(pixels, classes)
        self.batches: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.batches.append(x.detach().clone())
        logits: Tensor = self.linear(x.flatten(1))
        return logits


def numbered(count: int) -> ImageData:
    """Images that can be told apart: image i is all i."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    labels = (torch.arange(count) >= count // 2).long()
    return ImageData("numbered", images, labels, images, labels, 2)


def epochs_seen(model: Watched, data: ImageData, epochs: int) -> list[list[int]]:
    """Which images every epoch visited, in order."""
    values = standardized(data)[0][:, 0, 0, 0]
    seen = [
        [int((values - x).abs().argmin()) for x in batch[:, 0, 0, 0]] for batch in model.batches
    ]
    assert len(seen) % epochs == 0
    steps = len(seen) // epochs
    return [[*chain(*seen[i * steps : (i + 1) * steps])] for i in range(epochs)]


def test_every_epoch_visits_every_image_in_a_new_order() -> None:
    data, model = numbered(40), Watched(4, 2)
    run(model, data, None, epochs=3, batch_size=8)
    orders = epochs_seen(model, data, 3)
    assert all(sorted(order) == list(range(40)) for order in orders)
    assert all(order != list(range(40)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    # A batch holds both classes: the file's order does not shine through.
    assert all(0 < sum(i < 20 for i in order[:8]) < 8 for order in orders)
    assert [len(batch) for batch in model.batches] == [8] * 15


def test_a_single_image_left_over_waits() -> None:
    data, model = numbered(41), Watched(4, 2)
    run(model, data, None, epochs=2, batch_size=8)
    assert [len(batch) for batch in model.batches] == [8] * 10
    assert all(len(set(order)) == 40 for order in epochs_seen(model, data, 2))


def test_batches_of_one_image_are_trained_on_when_asked_for() -> None:
    data, model = numbered(5), Watched(4, 2)
    run(model, data, None, epochs=1, batch_size=1)
    assert [sorted(order) for order in epochs_seen(model, data, 1)] == [list(range(5))]


def test_images_are_standardized_with_the_training_part() -> None:
    data, model = blobs(), Watched(36, 3)
    run(model, data, None, epochs=1, batch_size=1000)
    (batch,) = model.batches
    assert float(batch.mean()) == pytest.approx(0, abs=1e-5)
    assert float(batch.std()) == pytest.approx(1, abs=1e-4)


def test_images_of_one_color_do_not_divide_by_zero() -> None:
    images = torch.full((8, 1, 2, 2), 7, dtype=torch.uint8)
    labels = torch.arange(8) % 2
    data = ImageData("flat", images, labels, images, labels, 2)
    result = run(Watched(4, 2), data, PRECISION)
    assert (result.error, result.diverged) == (0.5, False)


class Failing(nn.Module):
    """A classifier whose logits are NaN from some training step on."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.linear = nn.Linear(36, 3)
        self.step, self.steps = step, 0

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        self.steps += self.training
        return logits * (float("nan") if self.steps > self.step else 1.0)


@pytest.mark.parametrize("precision", [PRECISION, None], ids=str)
def test_a_diverged_training_ends_early_with_its_real_error(precision: Precision | None) -> None:
    data = blobs()
    done: list[int] = []
    # 72 images in batches of 16 are 5 steps an epoch: the 7th is in the second epoch.
    result = run(Failing(6), data, precision, epochs=9, on_epoch=done.append)
    # NaN logits answer the first class, which a third of the test images have.
    assert result == TrainingResult(2 / 3, (2 / 3,), True, 2)
    assert done == [1, 2]


def test_divergence_in_the_last_epoch_is_told_too() -> None:
    result = run(Failing(6), blobs(), None, epochs=2, averaged_epochs=2)
    assert (result.diverged, result.epochs, result.errors) == (True, 2, (2 / 3,))


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_a_huge_learning_rate_still_gives_an_error(rounding: Rounding) -> None:
    plain = run(network(), blobs(), None, learning_rate=1e30, epochs=5)
    assert plain.diverged
    assert plain.epochs < 5
    scheme = RoundingScheme(rounding=rounding)
    rounded = run(network(), blobs(), PRECISION, learning_rate=1e30, scheme=scheme)
    for result in (plain, rounded):
        assert 0.5 < result.error <= 1


def test_the_error_is_the_mean_of_the_last_epochs() -> None:
    every = run(network(), blobs(), PRECISION, epochs=5, learning_rate=0.005, averaged_epochs=9)
    assert len(every.errors) == 5
    assert len(set(every.errors)) > 1
    assert every.error == pytest.approx(sum(every.errors) / 5)
    for count in (1, 2):
        last = run(
            network(), blobs(), PRECISION, epochs=5, learning_rate=0.005, averaged_epochs=count
        )
        assert last.errors == every.errors[-count:]
        assert last.error == pytest.approx(sum(last.errors) / count)
    assert (every.diverged, every.epochs) == (False, 5)


def test_every_epoch_is_reported() -> None:
    done: list[int] = []
    run(network(), blobs(), PRECISION, epochs=4, on_epoch=done.append)
    assert done == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be positive; got 0.0"),
        ({"learning_rate": -1.0}, "learning_rate must be positive; got -1.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive; got nan"),
        ({"learning_rate": float("inf")}, "learning_rate must be positive; got inf"),
        ({"epochs": 0}, "epochs must be at least 1; got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"averaged_epochs": 0}, "averaged_epochs must be at least 1; got 0"),
        ({"optimizer": "lion"}, "optimizer must be 'sgd', 'adam' or 'adamw'; got 'lion'$"),
        ({"optimizer": "SGD"}, "optimizer must be 'sgd', 'adam' or 'adamw'; got 'SGD'"),
        ({"optimizer": None}, "optimizer must be 'sgd', 'adam' or 'adamw'; got None"),
        ({"backend": "compile"}, "backend must be .*; got 'compile'. Did you mean 'compiled'"),
        ({"backend": "eager "}, "backend must be 'compiled', 'eager' or 'qpytorch'; got 'eager '"),
    ],
    ids=str,
)
def test_bad_arguments(settings: dict[str, Any], message: str) -> None:
    model = network()
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        run(model, blobs(), PRECISION, **settings)
    assert all(map(torch.equal, weights(model), before))


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts how often the program waits for a number of a tensor."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_an_epoch_waits_for_one_number() -> None:
    def reads(epochs: int, batch_size: int) -> int:
        with Reads() as mode:  # type: ignore[no-untyped-call]
            run(network(), blobs(), PRECISION, epochs=epochs, batch_size=batch_size)
        return int(mode.count)

    # Whether its loss is finite; however many steps it has.
    assert reads(6, 16) == reads(5, 16) + 1
    assert reads(6, 4) == reads(6, 16)


def test_a_device_that_fits_the_machine() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == expected
    assert resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="device must be 'auto' or one of this machine"):
        resolve_device("abacus")


def test_the_scheme_matters() -> None:
    rounded, coarse = network(), network()
    run(rounded, blobs(), PRECISION)
    run(coarse, blobs(), PRECISION, scheme=RoundingScheme(weight_gradients="A"))
    assert not any(map(torch.equal, weights(rounded), weights(coarse)))


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_digits_are_learned_in_8_and_16_bits(rounding: Rounding) -> None:
    digits = load_dataset("digits")
    data = ImageData(
        "some digits",
        digits.train_images[:600],
        digits.train_labels[:600],
        digits.test_images,
        digits.test_labels,
        10,
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    scheme = RoundingScheme(rounding=rounding)
    result = run(model, data, PRECISION, batch_size=32, scheme=scheme, averaged_epochs=1)
    assert result.error < 0.25  # chance is 0.9
