"""Chooses a pre-trained image classifier by error and size, by evaluating ten of 400.

What is known of the models are the results that pytorch-image-models publishes, a file a test set:

    python -m optuna_peppp.examples.pretrained_models FOLDER

reads FOLDER/results-TEST-SET.csv of at least three test sets. One of them stands for your own
data: its errors are looked up one by one, where you would evaluate a model.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna

from optuna_peppp import ConfigurationSpace, Cost, ErrorMatrix, MetaModel, PEPPPSampler, predict


def read(folder: Path, models: int = 400) -> ErrorMatrix:
    """Errors and numbers of parameters: a row a test set, of models evenly drawn by size.

    Args:
        folder: Of the files; ``top1_err`` is in percent, ``param_count`` in millions.
        models: How many to draw at most, of those that all test sets have. One at two sizes of
            images is two.
    """
    tables = {}
    for path in sorted(folder.glob("results-*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            tables[path.stem.removeprefix("results-")] = {
                f"{row['model']}@{row['img_size']}": (
                    float(row["top1_err"]) / 100,
                    float(row["param_count"].replace(",", "")) * 1e6,
                )
                for row in csv.DictReader(file)
            }
    if len(tables) < 3:
        raise ValueError(f"{folder} must hold results-*.csv of three test sets; got {len(tables)}")
    sizes = {name: size for name, (_, size) in next(iter(tables.values())).items()}
    common = [name for name in sizes if all(name in table for table in tables.values())]
    common.sort(key=lambda name: (sizes[name], name))
    places = np.linspace(0, len(common) - 1, min(models, len(common))).astype(int)
    drawn = [common[place] for place in places]
    cells = np.array([[table[name] for name in drawn] for table in tables.values()])
    space = ConfigurationSpace({"model": drawn})
    return ErrorMatrix(space, tuple(tables), cells[..., 0], cells[..., 1])


def choose(results: ErrorMatrix, test_set: str, evaluations: int, cap: str) -> optuna.Study:
    """Evaluates some models on a test set that is left out, and says which one to take."""
    new = results.tasks.index(test_set)
    space, errors = results.space, results.errors[new]
    size = Cost(results.memory[new], name="parameters", unit="")
    meta = MetaModel.fit(results.rows([row for row in range(len(results.tasks)) if row != new]))

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        index = space.index(space.suggest(trial))
        return float(errors[index]), float(size.array[index])  # here you evaluate the model

    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=PEPPPSampler(meta, size)
    )
    study.optimize(objective, n_trials=evaluations)
    found = predict(study, meta, size).recommend(cap)
    print(
        f"{found.params['model']}: {size.format(size.array[found.index])} parameters, error "
        f"{found.error:.3f} {'measured' if found.measured else f'± {found.std:.3f}'}; the truth "
        f"is {errors[found.index]:.3f}, the lowest within {cap} parameters "
        f"{errors[size.array <= size.parse(cap)].min():.3f}"
    )
    return study


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of results-*.csv")
    parser.add_argument("--test-set", default="sketch", help="default: %(default)s")
    parser.add_argument("--evaluations", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--cap", default="30M", help="parameters; default: %(default)s")
    options = parser.parse_args(argv)
    choose(read(options.folder), options.test_set, options.evaluations, options.cap)


if __name__ == "__main__":
    main()
