"""Tunes on several machines at once: each runs this program on one storage.

    createdb tuning
    python -m optuna_peppp.examples.several_machines postgresql+psycopg://USER:PASSWORD@HOST/tuning

``pip install "psycopg[binary]"`` is PostgreSQL's driver; a MySQL or any other storage of Optuna
will do, too. Let the first worker begin alone: it makes the tables. Workers may come, go and be
killed; no two take the same configuration while others are free, and each learns from what all
have measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import optuna

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
    """Takes part in a study, which it begins where there is none."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("storage", help="URL of the storage")
    parser.add_argument("--study-name", default="digits", help="default: %(default)s")
    parser.add_argument("--trials", type=int, default=3, help="of this worker (default: 3)")
    parser.add_argument("--epochs", type=int, default=5, help="default: %(default)s")
    options = parser.parse_args(argv)
    space, meta = ConfigurationSpace.paper(), MetaModel.fit(load_corpus("plain3-cifar100"))
    memory = memory_vector(space, network(), (64,), batch_size=BATCH_SIZE)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        index = space.index(space.suggest(trial))
        *_, error = errors_of(space.recipe(index), options.epochs)
        return error, float(memory[index])

    study = optuna.create_study(
        study_name=options.study_name,
        storage=options.storage,
        load_if_exists=True,
        directions=["minimize", "minimize"],
        sampler=PEPPPSampler(meta, memory),
    )
    study.optimize(objective, n_trials=options.trials)
    print(predict(study, meta, memory).recommend())
    return study


if __name__ == "__main__":
    main()
