"""Tunes formats and the learning rate together: both are names of one space.

    python -m optuna_peppp.examples.joint_tuning [--trials 10] [--epochs 5]

Fewer bits may want another learning rate, so that tuning one after the other misses the best pair.
No past tasks of this space are at hand: :meth:`MetaModel.cold` begins without them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import optuna

from optuna_peppp import ConfigurationSpace, MetaModel, PEPPPSampler, memory_vector, predict
from optuna_peppp.examples.own_loop import BATCH_SIZE, errors_of, network


def main(argv: Sequence[str] | None = None) -> optuna.Study:
    """Trains with a few configurations of 64, and prints which one to take."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=5, help="default: %(default)s")
    options = parser.parse_args(argv)
    space = ConfigurationSpace(
        {
            "format_a": ["1-3-1", "1-4-1", "1-4-3", "1-5-3"],
            "format_b": ["1-6-7", "1-6-9", "1-7-9", "1-8-11"],
            "learning_rate": [0.01, 0.03, 0.1, 0.3],
        }
    )
    meta = MetaModel.cold(space)
    memory = memory_vector(space, network(), (64,), batch_size=BATCH_SIZE)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        params = space.suggest(trial)
        index = space.index(params)
        *_, error = errors_of(space.recipe(index), options.epochs, float(params["learning_rate"]))
        return error, float(memory[index])

    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=PEPPPSampler(meta, memory)
    )
    study.optimize(objective, n_trials=options.trials)
    print(predict(study, meta, memory).recommend())
    return study


if __name__ == "__main__":
    main()
