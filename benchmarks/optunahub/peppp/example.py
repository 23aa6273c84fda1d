"""A study of random forests that learns from past ones of other data sets."""

from collections.abc import Callable
from functools import partial
from typing import Any

import optuna
import optunahub
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

peppp = optunahub.load_module(package="samplers/peppp")
space = peppp.ConfigurationSpace({"trees": [1, 2, 4, 8, 16, 32], "depth": [1, 2, 3, 4, 6, 8]})
configurations = [space.params(index) for index in range(len(space))]
# The second objective needs no training: a forest has at most so many leaves.
leaves = [config["trees"] * 2 ** config["depth"] for config in configurations]
size = peppp.Cost(leaves, name="leaves", unit="")


def objective(trial: optuna.Trial, load: Callable[..., Any]) -> tuple[float, float]:
    """The test error of a forest, and its size."""
    config = space.suggest(trial)
    x, x_test, y, y_test = train_test_split(*load(return_X_y=True), test_size=0.5, random_state=0)
    forest = RandomForestClassifier(config["trees"], max_depth=config["depth"], random_state=0)
    return 1 - forest.fit(x, y).score(x_test, y_test), leaves[space.index(config)]


past = []
for load in (load_breast_cancer, load_iris, load_wine):  # yours: optuna.load_study(...)
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.optimize(partial(objective, load=load), n_trials=20)
    past.append(study)

meta = peppp.MetaModel.fit(peppp.error_matrix_from_studies(past, space, leaves))
# Nothing larger is trained, but it may be recommended.
sampler = peppp.PEPPPSampler(meta, size, measurement_cap=1000, seed=0)
study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
study.optimize(partial(objective, load=load_digits), n_trials=8)
print(peppp.predict(study, meta, size).recommend(2000))
