"""Tunes the formats of a training loop of your own: a plain loop of PyTorch in an Optuna study.

    python -m optuna_peppp.examples.own_loop [--trials 6] [--epochs 5]

The loop is :func:`errors_of`; what a study adds is :func:`main`. The other examples use both the
loop and the network.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import optuna
import torch
from sklearn.datasets import load_digits
from torch import nn

from optuna_peppp import (
    ConfigurationSpace,
    MetaModel,
    PEPPPSampler,
    Recipe,
    load_corpus,
    low_precision,
    memory_vector,
    predict,
)

TRAINING, BATCH_SIZE = 1400, 32
"""Images to train on, of 1,797, and in a step."""


def network() -> nn.Module:
    """A network that starts from the same weights every time."""
    torch.manual_seed(0)
    first, second, last = nn.Linear(64, 64), nn.Linear(64, 32), nn.Linear(32, 10)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)


def errors_of(recipe: Recipe, epochs: int, learning_rate: float = 0.05) -> Iterator[float]:
    """Trains on digits, and tells the test error after every epoch."""
    images, labels = map(torch.as_tensor, load_digits(return_X_y=True))
    images = images.float() / 16
    x, x_test = images[:TRAINING], images[TRAINING:]
    y, y_test = labels[:TRAINING], labels[TRAINING:]
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)
    rounded, optimizer = low_precision(model, sgd, recipe, seed=0)
    for _ in range(epochs):
        rounded.train()
        order = torch.randperm(len(x))
        for start in range(0, len(x), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(rounded(x[batch]), y[batch])
            optimizer.scale(loss).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            wrong = rounded.eval()(x_test).argmax(1) != y_test
        yield wrong.float().mean().item()


def main(argv: Sequence[str] | None = None) -> optuna.Study:
    """Trains with a few configurations of 99, and prints which one to take."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=6, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=5, help="default: %(default)s")
    options = parser.parse_args(argv)
    space, meta = ConfigurationSpace.paper(), MetaModel.fit(load_corpus("plain3-cifar100"))
    memory = memory_vector(space, network(), (64,), batch_size=BATCH_SIZE)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        index = space.index(space.suggest(trial))
        *_, error = errors_of(space.recipe(index), options.epochs)
        return error, float(memory[index])

    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=PEPPPSampler(meta, memory)
    )
    study.optimize(objective, n_trials=options.trials)
    print(predict(study, meta, memory).recommend())
    return study


if __name__ == "__main__":
    main()
