"""Stops trainings early by any pruner of Optuna: in a study of one objective, the error.

    python -m optuna_peppp.examples.pruning [--trials 10] [--epochs 9]

Optuna lets trials of one objective report, and be pruned. The sampler is given memory as always,
needs no second objective for it, and asks for the same trainings; predictions and recommendations
are against memory, too. Two things to know:

- A pruner compares errors alone. A small configuration with a high error may be on the frontier,
  but looks bad beside large ones: prune where the lowest error within a cap is wanted, given to the
  sampler as ``measurement_cap``, and rather let small ones finish where the whole frontier is.
- What was pruned has no final error: it is not asked for again, and nothing is learned of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import optuna
from optuna.pruners import MedianPruner

from optuna_peppp import (
    ConfigurationSpace,
    MetaModel,
    PEPPPSampler,
    load_corpus,
    memory_vector,
    predict,
)
from optuna_peppp.examples.own_loop import BATCH_SIZE, errors_of, network


def main(argv: Sequence[str] | None = None) -> optuna.Study:
    """Trains with a few configurations of 99, not all to the end, and prints which one to take."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=9, help="default: %(default)s")
    options = parser.parse_args(argv)
    space, meta = ConfigurationSpace.paper(), MetaModel.fit(load_corpus("plain3-cifar100"))
    memory = memory_vector(space, network(), (64,), batch_size=BATCH_SIZE)

    def objective(trial: optuna.Trial) -> float:
        index = space.index(space.suggest(trial))
        error = 1.0
        for epoch, error in enumerate(errors_of(space.recipe(index), options.epochs)):
            trial.report(error, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return error

    study = optuna.create_study(
        sampler=PEPPPSampler(meta, memory), pruner=MedianPruner(n_startup_trials=3)
    )
    study.optimize(objective, n_trials=options.trials)
    print(predict(study, meta, memory).recommend())
    return study


if __name__ == "__main__":
    main()
