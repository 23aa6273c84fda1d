"""What a sampler of a finite space owes its study, for every strategy."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.samplers import PartialFixedSampler, RandomSampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from optuna_peppp.choices import Strategy
from optuna_peppp.configurations.space import ConfigurationSpace, Value
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.studies.sampler import PEPPPSampler

SPACE = ConfigurationSpace.paper()
D = len(SPACE)
_FORMATS = [SPACE.precision(index) for index in range(D)]
MEMORY = np.array([1e7 * p.format_a.bits + 1e6 * p.format_b.bits for p in _FORMATS])
_RNG = np.random.default_rng(0)
ERRORS = np.clip(0.5 + 0.1 * _RNG.normal(size=(12, 4)) @ _RNG.normal(size=(4, D)), 0, 1)
TASKS = tuple(f"task {i}" for i in range(len(ERRORS)))
META = MetaModel.fit(ErrorMatrix(SPACE, TASKS, ERRORS, np.tile(MEMORY, (len(TASKS), 1))))
CHEAPEST = int(np.argmin(MEMORY))

pytestmark = pytest.mark.parametrize("strategy", get_args(Strategy))


def make_study(sampler: optuna.samplers.BaseSampler, **kwargs: Any) -> Study:
    return optuna.create_study(directions=["minimize", "minimize"], sampler=sampler, **kwargs)


def objective(trial: Trial) -> tuple[float, float]:
    index = SPACE.index(SPACE.suggest(trial))
    return float(ERRORS[0, index]), float(MEMORY[index])


def single_objective(trial: Trial) -> float:
    return objective(trial)[0]


def asked(study: Study) -> list[int]:
    """The configurations of all trials, in their order."""
    return [SPACE.index(trial.params) for trial in study.get_trials(deepcopy=False)]


def ask(study: Study) -> tuple[Trial, int]:
    trial = study.ask()
    return trial, SPACE.index(SPACE.suggest(trial))


def first_asked(strategy: Strategy, count: int, **kwargs: Any) -> list[int]:
    """The order in which an undisturbed study asks."""
    study = make_study(PEPPPSampler(META, MEMORY, strategy=strategy, seed=1, **kwargs))
    study.optimize(objective, n_trials=count)
    return asked(study)


@pytest.fixture
def sampler(strategy: Strategy) -> PEPPPSampler:
    return PEPPPSampler(META, MEMORY, strategy=strategy, seed=1)


@pytest.fixture
def study(sampler: PEPPPSampler) -> Study:
    return make_study(sampler)


def test_the_whole_space_once_then_stop(study: Study) -> None:
    study.optimize(objective, n_trials=2 * D)
    assert sorted(asked(study)) == list(range(D))


def test_whole_space_by_ask_and_tell(study: Study) -> None:
    for _ in range(D):
        trial, index = ask(study)
        study.tell(trial, (float(ERRORS[0, index]), float(MEMORY[index])))
    assert sorted(asked(study)) == list(range(D))


def test_single_objective(sampler: PEPPPSampler, strategy: Strategy) -> None:
    study = optuna.create_study(sampler=sampler)
    study.optimize(single_objective, n_trials=2 * D)
    assert asked(study) == first_asked(strategy, D)


def test_measurement_cap_is_kept(strategy: Strategy) -> None:
    cap = float(np.median(MEMORY))
    allowed = [index for index in range(D) if MEMORY[index] <= cap]
    study = make_study(PEPPPSampler(META, MEMORY, strategy=strategy, measurement_cap=cap))
    study.optimize(objective, n_trials=2 * D)
    assert sorted(asked(study)) == allowed


def test_deterministic_under_a_seed(strategy: Strategy) -> None:
    assert first_asked(strategy, 20) == first_asked(strategy, 20)


@pytest.mark.parametrize("interrupted_after", [1, 2, 7])
def test_a_new_sampler_goes_on(study: Study, strategy: Strategy, interrupted_after: int) -> None:
    study.optimize(objective, n_trials=interrupted_after)
    study.sampler = PEPPPSampler(META, MEMORY, strategy=strategy, seed=1)
    study.optimize(objective, n_trials=12 - interrupted_after)
    assert asked(study) == first_asked(strategy, 12)


def test_a_pickled_sampler_goes_on(study: Study, strategy: Strategy) -> None:
    study.optimize(objective, n_trials=5)
    study.sampler = pickle.loads(pickle.dumps(study.sampler))
    study.optimize(objective, n_trials=7)
    assert asked(study) == first_asked(strategy, 12)


def _sqlite(folder: Path) -> BaseStorage:
    return RDBStorage(f"sqlite:///{folder / 'study.db'}")


def _journal(folder: Path) -> BaseStorage:
    return JournalStorage(JournalFileBackend(str(folder / "study.log")))


@pytest.mark.parametrize("open_storage", [_sqlite, _journal])
def test_a_stored_study_goes_on(
    strategy: Strategy, tmp_path: Path, open_storage: Callable[[Path], BaseStorage]
) -> None:
    for n_trials in (5, 7):
        study = make_study(
            PEPPPSampler(META, MEMORY, strategy=strategy, seed=1),
            storage=open_storage(tmp_path),
            study_name="task",
            load_if_exists=True,
        )
        study.optimize(objective, n_trials=n_trials)
    assert asked(study) == first_asked(strategy, 12)


def test_numeric_choices_survive_a_storage(strategy: Strategy, tmp_path: Path) -> None:
    space = ConfigurationSpace(
        {"format_a": ["1-3-1", "1-4-3"], "learning_rate": [0.1, 1e-3, 1], "batch": [32, 64]}
    )
    memory = np.linspace(1e6, 2e6, len(space))
    errors = np.random.default_rng(0).random((3, len(space)))
    tasks = ("a", "b", "c")
    meta = MetaModel.fit(ErrorMatrix(space, tasks, errors, np.tile(memory, (3, 1))))
    study = make_study(PEPPPSampler(meta, memory, strategy=strategy), storage=_journal(tmp_path))

    def objective(trial: Trial) -> tuple[float, float]:
        index = space.index(space.suggest(trial))
        return float(errors[0, index]), float(memory[index])

    study.optimize(objective, n_trials=2 * D)
    assert sorted(space.index(trial.params) for trial in study.trials) == list(range(12))


def test_enqueued_configurations_come_first_and_once(study: Study) -> None:
    enqueued = [CHEAPEST, 42, 98]
    for index in enqueued:
        study.enqueue_trial(SPACE.params(index))
    study.optimize(objective, n_trials=2 * D)
    assert asked(study)[:3] == enqueued
    assert sorted(asked(study)) == list(range(D))


def test_waiting_configurations_are_left_to_their_trial(study: Study, strategy: Strategy) -> None:
    first, second = first_asked(strategy, 2)
    trial = study.ask()
    study.enqueue_trial(SPACE.params(first))
    chosen = SPACE.index(SPACE.suggest(trial))
    assert chosen != first
    if strategy in ("qr-mf", "random-mf"):  # the others go on from what waits
        assert chosen == second


def test_partly_enqueued_configurations_are_completed(study: Study) -> None:
    agreeing = [index for index in range(D) if SPACE.params(index)["format_b"] == "1-7-9"]
    study.optimize(objective, n_trials=10)
    seen = set(asked(study))
    for _ in range(len(agreeing) - len(seen.intersection(agreeing))):
        study.enqueue_trial({"format_b": "1-7-9"})
    study.optimize(objective, n_trials=len(agreeing))
    assert set(agreeing) <= set(asked(study))
    assert len(set(asked(study))) == len(study.trials)


def test_a_fixed_value_without_free_configurations_repeats_the_least_measured(
    study: Study,
) -> None:
    for _ in range(2 * 9):
        study.enqueue_trial({"format_a": "1-5-3"})
    study.optimize(objective, n_trials=2 * 9)
    assert len(set(asked(study)[:9])) == 9
    assert sorted(asked(study)[:9]) == sorted(asked(study)[9:])


def test_fixed_values_win_over_the_cap(strategy: Strategy) -> None:
    cap = float(MEMORY.min())
    study = make_study(PEPPPSampler(META, MEMORY, strategy=strategy, measurement_cap=cap))
    study.enqueue_trial({"format_a": "1-4-4"})
    study.enqueue_trial(SPACE.params(98))
    study.optimize(objective, n_trials=2)
    smallest = SPACE.index({"format_a": "1-4-4", "format_b": "1-6-7"})
    assert asked(study) == [smallest, 98]


def test_fixed_values_outside_the_space_are_optunas_to_refuse(study: Study) -> None:
    study.enqueue_trial({"format_b": "1-2-1"})
    trial = study.ask()
    value = trial.suggest_categorical("format_a", SPACE.choices["format_a"])
    assert value in SPACE.choices["format_a"]
    with pytest.raises(ValueError, match="'1-2-1' not in"):
        trial.suggest_categorical("format_b", SPACE.choices["format_b"])


def test_foreign_fixed_values_are_kept(study: Study, strategy: Strategy) -> None:
    study.enqueue_trial({"batch_size": 64, "note": ["a", "list"]})
    trial, index = ask(study)
    assert trial.suggest_int("batch_size", 1, 128) == 64
    assert [index] == first_asked(strategy, 1)


def test_failed_configurations_are_free_again_after_all_others(strategy: Strategy) -> None:
    study = small_study(strategy)
    trial = study.ask()
    failed = SMALL.index(SMALL.suggest(trial))
    study.tell(trial, state=TrialState.FAIL)
    study.optimize(small_objective, n_trials=2 * len(SMALL))
    configurations = [SMALL.index(trial.params) for trial in study.trials]
    assert sorted(configurations[1:]) == list(range(len(SMALL)))
    assert configurations[-1] == failed


SMALL = ConfigurationSpace({"format_a": ["1-3-1", "1-4-3"], "learning_rate": [0.1, 0.01, 0.001]})
SMALL_MEMORY = np.arange(1.0, 7.0)
SMALL_META = MetaModel.fit(
    ErrorMatrix(SMALL, TASKS, ERRORS[:, : len(SMALL)], np.tile(SMALL_MEMORY, (len(TASKS), 1)))
)


def small_study(strategy: Strategy, **kwargs: Any) -> Study:
    sampler = PEPPPSampler(SMALL_META, SMALL_MEMORY, strategy=strategy, seed=1)
    return make_study(sampler, **kwargs)


def small_objective(trial: Trial) -> tuple[float, float]:
    index = SMALL.index(SMALL.suggest(trial))
    return float(ERRORS[0, index]), float(SMALL_MEMORY[index])


def _raises(trial: Trial) -> tuple[float, float]:
    raise RuntimeError("out of memory")


def _is_nan(trial: Trial) -> tuple[float, float]:
    return float("nan"), 1.0


def _is_no_number(trial: Trial) -> Any:
    return None


def _is_no_error(trial: Trial) -> tuple[float, float]:
    return float("inf"), 1.0


def failing(result: Callable[[Trial], Any], broken: set[int]) -> Callable[[Trial], Any]:
    """An objective that comes to nothing in some configurations of the small space."""

    def objective(trial: Trial) -> Any:
        values = small_objective(trial)
        return result(trial) if SMALL.index(trial.params) in broken else values

    return objective


@pytest.mark.filterwarnings("ignore:ignored. trial:UserWarning")
@pytest.mark.parametrize("broken", [{5}, {0, 2, 4}, {2, 3, 4, 5}, set(range(6))])
@pytest.mark.parametrize("result", [_raises, _is_nan, _is_no_number, _is_no_error])
def test_what_always_fails_comes_last_and_the_study_ends(
    strategy: Strategy, result: Callable[[Trial], Any], broken: set[int]
) -> None:
    study = small_study(strategy)
    study.optimize(failing(result, broken), n_trials=100, catch=(RuntimeError,))
    tried = [SMALL.index(trial.params) for trial in study.trials]
    assert sorted(tried[: len(SMALL)]) == list(range(len(SMALL)))
    for position in range(len(SMALL), len(tried)):  # fewest failures first
        counts = np.bincount(tried[:position], minlength=len(SMALL))
        assert counts[tried[position]] == counts[sorted(broken)].min()
    counts = np.bincount(tried)
    assert counts.tolist() == [3 if index in broken else 1 for index in range(len(SMALL))]


@pytest.mark.parametrize("broken", [{0, 2, 4}, set(range(6))])
def test_a_study_of_threads_ends_too(strategy: Strategy, broken: set[int]) -> None:
    study = small_study(strategy)
    study.optimize(failing(_raises, broken), n_trials=100, n_jobs=3, catch=(RuntimeError,))
    counts = np.bincount([SMALL.index(trial.params) for trial in study.trials])
    assert counts.min() >= 1
    assert counts[sorted(broken)].min() >= 3
    assert len(study.trials) < 50


def test_threads_that_fail_try_other_configurations(study: Study) -> None:
    def fails(trial: Trial) -> tuple[float, float]:
        objective(trial)
        raise RuntimeError("out of memory")

    study.optimize(fails, n_trials=60, n_jobs=4, catch=(RuntimeError,))
    assert len(set(asked(study))) == 60


def test_whoever_asks_on_gets_what_failed_least_often(strategy: Strategy) -> None:
    """By ask and tell nothing stops: what fails takes three turns for one of the others."""
    study = small_study(strategy)
    tried = []
    for _ in range(3 * 10):
        trial = study.ask()
        tried.append(SMALL.index(SMALL.suggest(trial)))
        if tried[-1] in (1, 4):
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, (0.5, float(SMALL_MEMORY[tried[-1]])))
    assert np.bincount(tried).tolist() == [3, 9, 3, 3, 9, 3]


@pytest.mark.parametrize("open_storage", [_sqlite, _journal])
def test_what_failed_is_not_asked_for_after_a_restart(
    strategy: Strategy, tmp_path: Path, open_storage: Callable[[Path], BaseStorage]
) -> None:
    tried = []
    for _ in range(len(SMALL)):
        study = small_study(
            strategy, storage=open_storage(tmp_path), study_name="task", load_if_exists=True
        )
        with pytest.raises(RuntimeError):
            study.optimize(failing(_raises, set(range(6))), n_trials=1)
        tried.append(SMALL.index(study.trials[-1].params))
    assert sorted(tried) == list(range(len(SMALL)))


def test_failures_count_for_what_is_enqueued_in_part(strategy: Strategy) -> None:
    study = small_study(strategy)
    for _ in range(3):
        study.enqueue_trial({"format_a": "1-4-3"})
    study.optimize(failing(_raises, {3, 4, 5}), n_trials=3, catch=(RuntimeError,))
    assert sorted(SMALL.index(trial.params) for trial in study.trials) == [3, 4, 5]


def test_failures_before_all_names_are_asked_for_count_for_what_agrees(
    strategy: Strategy,
) -> None:
    study = small_study(strategy)

    def objective(trial: Trial) -> tuple[float, float]:
        trial.suggest_categorical("learning_rate", SMALL.choices["learning_rate"])
        if trial.number < 3:
            raise RuntimeError("cannot be built")
        return small_objective(trial)

    study.optimize(objective, n_trials=3, catch=(RuntimeError,))
    assert {trial.params["learning_rate"] for trial in study.trials} == {0.1, 0.01, 0.001}


def test_failures_without_our_names_count_for_nothing(strategy: Strategy) -> None:
    study = small_study(strategy)
    for _ in range(9):
        study.tell(study.ask(), state=TrialState.FAIL)
    study.optimize(small_objective, n_trials=100)
    assert sorted(SMALL.index(trial.params) for trial in study.trials[9:]) == list(range(6))


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_stale_trials_of_killed_workers_come_last(strategy: Strategy, tmp_path: Path) -> None:
    storage = RDBStorage(f"sqlite:///{tmp_path / 'study.db'}", heartbeat_interval=1, grace_period=1)
    study = small_study(strategy, storage=storage)
    trial = study.ask()
    killed = SMALL.index(SMALL.suggest(trial))
    storage.record_heartbeat(trial._trial_id)
    time.sleep(2.1)
    study.optimize(small_objective, n_trials=100)
    configurations = [SMALL.index(trial.params) for trial in study.trials]
    assert study.trials[0].state == TrialState.FAIL
    assert sorted(configurations[1:]) == list(range(len(SMALL)))
    assert configurations[-1] == killed


def test_what_fails_waits_for_what_others_run_no_longer_than_three_times(
    strategy: Strategy,
) -> None:
    study = small_study(strategy)
    abandoned = study.ask()
    held = SMALL.index(SMALL.suggest(abandoned))
    broken = set(range(len(SMALL))) - {held}
    objective = failing(_raises, broken)
    study.optimize(objective, n_trials=3 * len(broken) + 1, catch=(RuntimeError,))
    tried = [SMALL.index(trial.params) for trial in study.trials]
    assert tried.count(held) == 2
    assert tried[-1] == held


def test_running_configurations_are_taken(study: Study) -> None:
    assert len({ask(study)[1] for _ in range(D)}) == D


def test_a_half_asked_configuration_is_taken(study: Study) -> None:
    half = study.ask()
    half.suggest_categorical("format_a", SPACE.choices["format_a"])
    _, other = ask(study)
    assert SPACE.index(SPACE.suggest(half)) != other


def test_running_configurations_are_offered_when_no_other_remains(study: Study) -> None:
    abandoned = [ask(study)[1] for _ in range(3)]
    study.optimize(objective, n_trials=D - 3)
    assert len(set(asked(study))) == D
    study.optimize(objective, n_trials=2 * D)
    assert sorted(asked(study)[D:]) == sorted(abandoned)


def test_pruned_configurations_are_spent(sampler: PEPPPSampler) -> None:
    study = optuna.create_study(sampler=sampler)

    def pruned_objective(trial: Trial) -> float:
        error = single_objective(trial)
        if trial.number % 2:
            raise optuna.TrialPruned
        return error

    study.optimize(pruned_objective, n_trials=2 * D)
    assert sorted(asked(study)) == list(range(D))
    assert len(study.get_trials(states=(TrialState.PRUNED,))) == D // 2


def test_all_trials_count_under_a_pruner_that_shows_brackets_only(sampler: PEPPPSampler) -> None:
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9)
    study = optuna.create_study(sampler=sampler, pruner=pruner)

    def reporting_objective(trial: Trial) -> float:
        trial.report(0.5, 1)
        assert not trial.should_prune()
        return single_objective(trial)

    study.optimize(reporting_objective, n_trials=2 * D)
    assert sorted(asked(study)) == list(range(D))


def test_an_exhausted_space_is_measured_once_more(study: Study, strategy: Strategy) -> None:
    study.optimize(objective, n_trials=2 * D)
    for _ in range(D):
        trial, index = ask(study)
        study.tell(trial, (float(ERRORS[0, index]), float(MEMORY[index])))
    assert sorted(asked(study)[D:]) == list(range(D))
    if strategy != "bayesian":  # which knows more the second time
        assert asked(study)[D:] == asked(study)[:D]


def test_an_exhausted_study_stops_again(study: Study) -> None:
    study.optimize(objective, n_trials=2 * D)
    study.optimize(objective, n_trials=10)
    assert len(study.trials) == D + 1


def test_a_queue_is_emptied_before_the_stop(study: Study) -> None:
    study.optimize(objective, n_trials=D - 1)

    def enqueueing_objective(trial: Trial) -> tuple[float, float]:
        if trial.number == D - 1:
            study.enqueue_trial(SPACE.params(0))
            study.enqueue_trial(SPACE.params(1))
        return objective(trial)

    study.optimize(enqueueing_objective, n_trials=2 * D)
    assert asked(study)[D:] == [0, 1]


def test_threads_share_the_space(study: Study) -> None:
    study.optimize(objective, n_trials=60, n_jobs=4)
    assert len(set(asked(study))) == 60


def test_foreign_names_go_to_the_independent_sampler(strategy: Strategy) -> None:
    def mixed_objective(trial: Trial) -> tuple[float, float]:
        trial.suggest_float("dropout", 0, 1)
        error, memory = objective(trial)
        trial.suggest_int("width", 1, 9)
        return error, memory

    def random_objective(trial: Trial) -> float:
        return trial.suggest_float("dropout", 0, 1) + trial.suggest_int("width", 1, 9)

    study = make_study(
        PEPPPSampler(META, MEMORY, strategy=strategy, seed=1, independent_sampler=RandomSampler(7))
    )
    study.optimize(mixed_objective, n_trials=15)
    alone = optuna.create_study(sampler=RandomSampler(7))
    alone.optimize(random_objective, n_trials=15)
    assert asked(study) == first_asked(strategy, 15)
    for trial, expected in zip(study.trials, alone.trials, strict=True):
        assert {name: trial.params[name] for name in expected.params} == expected.params


def test_a_study_without_our_names_is_left_alone(strategy: Strategy) -> None:
    space = ConfigurationSpace({"format_a": ["1-3-1", "1-4-1"]})
    errors = np.array([[0.3, 0.2], [0.4, 0.1]])
    meta = MetaModel.fit(ErrorMatrix(space, ("a", "b"), errors, np.ones((2, 2))))
    study = optuna.create_study(sampler=PEPPPSampler(meta, [1, 1], strategy=strategy))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=5)
    assert len(study.trials) == 5
    assert all(trial.system_attrs == {} for trial in study.trials)


def test_partial_fixed_sampler(sampler: PEPPPSampler) -> None:
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        fixed = PartialFixedSampler({"format_a": "1-4-2"}, sampler)
    study = make_study(fixed)
    study.optimize(objective, n_trials=9)
    agreeing = [index for index in range(D) if SPACE.params(index)["format_a"] == "1-4-2"]
    assert sorted(asked(study)) == agreeing


def test_a_retried_trial_keeps_its_configuration(study: Study) -> None:
    stale = study.ask()
    format_a = stale.suggest_categorical("format_a", SPACE.choices["format_a"])
    frozen = study.get_trials()[0]
    study.tell(stale, state=TrialState.FAIL)
    # What optuna.storages.RetryHeartbeatStaleTrialCallback does.
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=frozen.params,
            distributions=frozen.distributions,
            system_attrs=frozen.system_attrs,
        )
    )
    retried, index = ask(study)
    assert retried.number == 1
    assert SPACE.params(index)["format_a"] == format_a
    assert ask(study)[1] != index


class _Rival(InMemoryStorage):
    """Lets other workers act just before a sampler's claims are written."""

    def __init__(self, *acts: Callable[[Any], None]) -> None:
        super().__init__()
        self._acts = list(acts)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if self._acts:
            self._acts.pop(0)(value)
        super().set_trial_system_attr(trial_id, key, value)


def _trial_of(params: dict[str, Value], state: TrialState, values: Sequence[float]) -> FrozenTrial:
    return create_trial(
        state=state,
        params=params,
        distributions=SPACE.distributions(),
        values=values if state == TrialState.COMPLETE else None,
    )


@pytest.mark.parametrize(
    "state", [TrialState.RUNNING, TrialState.WAITING, TrialState.COMPLETE, TrialState.FAIL]
)
def test_yields_to_a_worker_that_was_faster(sampler: PEPPPSampler, state: TrialState) -> None:
    taken: list[int] = []

    def act(claim: dict[str, Value]) -> None:
        taken.append(SPACE.index(claim))
        contested.add_trial(_trial_of(claim, state, (0.5, 1.0)))

    contested = make_study(sampler, storage=_Rival(act, act))
    _, index = ask(contested)
    assert len(set(taken)) == 2
    assert index not in taken


def test_settles_when_every_configuration_is_contested(sampler: PEPPPSampler) -> None:
    def act(claim: dict[str, Value]) -> None:
        contested.add_trial(_trial_of(claim, TrialState.RUNNING, ()))

    storage = _Rival(*[act] * (D + 1))
    contested = make_study(sampler, storage=storage)
    _, index = ask(contested)
    held = [SPACE.index(trial.params) for trial in contested.trials[1:]]
    assert sorted(held[:D]) == list(range(D))
    assert held.count(index) == 1


def test_an_objective_with_other_choices(study: Study) -> None:
    trial = study.ask()
    with pytest.raises(ValueError, match=r"must choose 'format_a' from .* meta\.space\.suggest"):
        trial.suggest_categorical("format_a", ["1-8-23", "1-5-10"])
    with pytest.raises(ValueError, match="must choose 'format_b' from"):
        trial.suggest_float("format_b", 0, 1)


def test_a_study_of_other_choices(study: Study) -> None:
    other = CategoricalDistribution(("1-3-1", "1-8-23"))
    study.add_trial(
        create_trial(
            params={"format_a": "1-8-23"}, distributions={"format_a": other}, values=(0.5, 1.0)
        )
    )
    with pytest.raises(ValueError, match=r"its trial 0 chose from .*1-8-23.*Start a new study"):
        ask(study)


def test_a_maximized_error(sampler: PEPPPSampler) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    with pytest.raises(ValueError, match="must minimize its first objective, the error"):
        ask(study)
