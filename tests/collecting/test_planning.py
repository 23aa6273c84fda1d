from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optuna_peppp.collecting.planning import by_study, plan
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora import sampling
from optuna_peppp.corpora.sampling import Scheme
from optuna_peppp.lowprecision import Experiment

SPACE = ConfigurationSpace(
    {
        "format_a": ["1-4-3", "1-5-3"],
        "format_b": ["1-6-7", "1-6-9"],
        "learning_rate": [0.1, 0.01],
    }
)


def experiment(folder: Path, name: str = "tiny", seed: int = 0) -> Experiment:
    """Noise in two classes."""
    rng = np.random.default_rng(len(name))
    path = folder / f"{name}.npz"
    if not path.exists():
        np.savez(
            path,
            train_images=rng.integers(0, 256, (64, 8, 8), dtype=np.uint8),
            train_labels=np.arange(64) % 2,
            test_images=rng.integers(0, 256, (30, 8, 8), dtype=np.uint8),
            test_labels=np.arange(30) % 2,
        )
    return Experiment(f"npz:{path}", "plain3", image_size=8, epochs=1, seed=seed)


@pytest.mark.parametrize("scheme", ["uniform", "memory"])
def test_the_plan_may_be_a_sample(tmp_path: Path, scheme: Scheme) -> None:
    experiments = [experiment(tmp_path, f"data{i}") for i in range(6)]
    planned = plan(experiments, SPACE, range(8), fraction=0.25, scheme=scheme, seed=3)
    memory = np.array([one.memory(SPACE) for one in experiments]).astype(int)
    drawn = sampling.plan(memory, 0.25, scheme, 3)
    assert [(m.experiment, SPACE.index(m.params)) for m in planned] == [
        (experiments[row], column) for row, column in np.argwhere(drawn).tolist()
    ]
    assert {SPACE.index(m.params) for m in planned} == set(range(8))
    assert len(planned) < 48


def test_the_plan_holds_every_configuration_of_every_experiment(tmp_path: Path) -> None:
    first, second = experiment(tmp_path), experiment(tmp_path, "other", seed=3)
    second = replace(second, batch_size=8, rounding="nearest", image_size=None)
    planned = plan([first, second], SPACE, [0, 5])
    assert [m.experiment for m in planned] == [first, first, second, second]
    assert [m.params for m in planned] == [SPACE.params(0), SPACE.params(5)] * 2
    assert [m.memory for m in planned[:2]] == first.memory(SPACE)[[0, 5]].tolist()
    last = planned[3]
    assert last.memory == second.memory(SPACE)[5]
    assert last.study == "plain3 other"
    assert last.key == (5, 3)
    assert last.settings == {
        "data": "other",
        "network": "plain3",
        "image_size": 16,
        "epochs": 1,
        "batch_size": 8,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "optimizer": "sgd",
        "schedule": "constant",
        "train": None,
        "width": None,
        "depth": None,
        "rounding": "nearest",
        "sites": "modules",
        "test_fraction": 0.2,
        "format_a": ["1-4-3", "1-5-3"],
        "format_b": ["1-6-7", "1-6-9"],
        "learning_rate": [0.1, 0.01],
    }


def test_a_single_learning_rate_is_a_setting(tmp_path: Path) -> None:
    single = ConfigurationSpace({**SPACE.choices, "learning_rate": [0.05]})
    formats = ConfigurationSpace({name: SPACE.choices[name] for name in ("format_a", "format_b")})
    given = replace(experiment(tmp_path), learning_rate=0.05)
    planned = plan([experiment(tmp_path)], single, range(4))
    assert planned == plan([given], formats, range(4))
    assert [m.params for m in planned] == [formats.params(index) for index in range(4)]
    assert {m.settings["learning_rate"] for m in planned} == {0.05}
    assert {m.experiment for m in planned} == {given}


@pytest.mark.parametrize(
    ("choices", "tuned"),
    [
        ({**SPACE.choices, "dropout": [0.5, 0.9]}, "format_a, format_b, learning_rate, dropout"),
        ({"format_a": ["1-4-3"]}, "format_a"),
    ],
)
def test_a_corpus_has_no_column_for_other_names(
    tmp_path: Path, choices: dict[str, list[str]], tuned: str
) -> None:
    with pytest.raises(ValueError, match=f"weight_decay besides; it tunes {tuned}$"):
        plan([experiment(tmp_path)], ConfigurationSpace(choices), [0])


def test_a_plan_by_studies_keeps_its_order(tmp_path: Path) -> None:
    experiments = [
        experiment(tmp_path),
        experiment(tmp_path, "other"),
        experiment(tmp_path, seed=2),
    ]
    planned = plan(experiments, SPACE, [4, 1])
    studies = by_study(planned)
    assert list(studies) == ["plain3 tiny", "plain3 other"]
    assert list(studies["plain3 tiny"]) == [(4, 0), (1, 0), (4, 2), (1, 2)]
    assert list(studies["plain3 other"].values()) == planned[2:4]


def test_a_plan_that_repeats_itself_is_refused(tmp_path: Path) -> None:
    planned = plan([experiment(tmp_path)], SPACE, [0, 1])
    with pytest.raises(ValueError, match=r"must differ; plain3 tiny, .*'1-4-3'.*, seed 0 is there"):
        by_study([*planned, planned[0]])


def test_two_experiments_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for other in (
        experiment(tmp_path / "elsewhere", seed=1),
        replace(experiment(tmp_path, seed=1), epochs=2),
    ):
        # Repeats that are none would be averaged.
        with pytest.raises(ValueError, match="those of plain3 tiny are of two: name every data"):
            by_study(plan([experiment(tmp_path), other], SPACE, [0]))


def test_assignments_that_are_one_training_are_told(tmp_path: Path) -> None:
    space = ConfigurationSpace.assignments(("1-3-1", "1-3-2"), demotion=(0.0, 0.5, 1.0))
    planned = plan([experiment(tmp_path)], space, range(6))
    # Where nothing is demoted, the lower format does not matter.
    assert [m.same_as for m in planned] == [0, 1, 2, 0, 4, 5]
    assert [m.same_as for m in plan([experiment(tmp_path)], SPACE, range(2))] == [0, 1]
