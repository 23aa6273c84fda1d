from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import optuna
import pytest
from numpy.typing import ArrayLike, NDArray
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from optuna_peppp.acquisition import improvement
from optuna_peppp.acquisition.design import greedy_order, qr_order, random_order
from optuna_peppp.choices import Strategy
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.meta.prior import TaskPrior
from optuna_peppp.studies.results import predict
from optuna_peppp.studies.sampler import PEPPPSampler

SPACE = ConfigurationSpace({"format_a": ["1-3-1", "1-4-1", "1-4-3"], "learning_rate": [0.1, 0.01]})
D = len(SPACE)
ERRORS = np.array(
    [
        [0.9, 0.8, 0.5, 0.6, 0.3, 0.35],
        [0.8, 0.9, 0.4, 0.3, 0.2, 0.10],
        [0.7, 0.7, 0.6, 0.2, 0.1, 0.40],
        [0.6, 0.9, 0.2, 0.3, 0.5, 0.05],
    ]
)
MEMORY = np.array([100.0, 110.0, 200.0, 210.0, 300.0, 310.0])
META = MetaModel.fit(ErrorMatrix(SPACE, ("a", "b", "c", "d"), ERRORS, np.tile(MEMORY, (4, 1))))


def asked(sampler: PEPPPSampler, count: int = D) -> list[int]:
    """The configurations that ``count`` trials get, all of them left running."""
    study = optuna.create_study(sampler=sampler)
    return [SPACE.index(SPACE.suggest(study.ask())) for _ in range(count)]


def test_ed_mf_is_the_greedy_design() -> None:
    assert asked(PEPPPSampler(META, MEMORY, strategy="ed-mf")) == greedy_order(META.embeddings, D)


def test_ed_mf_goes_on_from_what_others_chose() -> None:
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY, strategy="ed-mf"))
    study.enqueue_trial(SPACE.params(5))
    study.enqueue_trial(SPACE.params(0))
    chosen = [SPACE.index(SPACE.suggest(study.ask())) for _ in range(D)]
    assert chosen == [5, 0, *greedy_order(META.embeddings, D, start=[0, 5])]


def test_ed_mf_learns_nothing_from_pruned_trials() -> None:
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY, strategy="ed-mf"))
    first = greedy_order(META.embeddings, 1)[0]
    trial = study.ask()
    assert SPACE.index(SPACE.suggest(trial)) == first
    study.tell(trial, state=TrialState.PRUNED)
    chosen = [SPACE.index(SPACE.suggest(study.ask())) for _ in range(D - 1)]
    assert chosen == greedy_order(META.embeddings, D, feasible=np.arange(D) != first)


def test_qr_mf_is_the_order_of_the_pivots() -> None:
    assert asked(PEPPPSampler(META, MEMORY, strategy="qr-mf")) == qr_order(ERRORS)


def test_random_mf_is_a_seeded_order() -> None:
    for seed in range(3):
        sampler = PEPPPSampler(META, MEMORY, strategy="random-mf", seed=seed)
        assert asked(sampler) == random_order(D, seed)


def test_random_mf_without_a_seed_differs_between_samplers() -> None:
    orders = {tuple(asked(PEPPPSampler(META, MEMORY, strategy="random-mf"))) for _ in range(8)}
    assert len(orders) > 1


def test_bayesian_is_the_default() -> None:
    assert asked(PEPPPSampler(META, MEMORY)) == asked(
        PEPPPSampler(META, MEMORY, strategy="bayesian")
    )


def test_of_a_class_one_configuration_is_measured() -> None:
    classes = np.arange(D) // 2
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY, classes=classes, seed=0))
    chosen: list[int] = []

    def objective(trial: optuna.Trial) -> float:
        chosen.append(SPACE.index(SPACE.suggest(trial)))
        return float(ERRORS[0, chosen[-1]])

    study.optimize(objective, n_trials=D)  # which stops when all classes are spent
    assert sorted(chosen) == list(range(0, D, 2))
    prediction = predict(study, META, MEMORY, classes=classes)
    assert prediction.measured.all()
    assert prediction.mean.tolist() == ERRORS[0, classes * 2].tolist()


# "bayesian"


def worthiest(
    measured: dict[int, float],
    live: Sequence[int] = (),
    spent: Sequence[int] = (),
    cap: float | None = None,
    test_images: int | None = None,
) -> int:
    """The free configuration that is worth most."""
    feasible = np.less_equal(MEMORY, cap or MEMORY.max())
    free = feasible.copy()
    free[[*measured, *live, *spent]] = False
    worth = improvement.worth(
        META.prior,
        META.worlds,
        META.committee,
        MEMORY,
        feasible,
        free,
        list(measured),
        list(measured.values()),
        live=live,
        test_images=test_images,
    )
    return int(np.where(free, worth, -np.inf).argmax())


def add(study: Study, index: int, error: float, state: TrialState = TrialState.COMPLETE) -> None:
    study.add_trial(
        create_trial(
            state=state,
            params=SPACE.params(index),
            distributions=SPACE.distributions(),
            value=error if state == TrialState.COMPLETE else None,
        )
    )


def next_asked(study: Study) -> int:
    return SPACE.index(SPACE.suggest(study.ask()))


@pytest.mark.parametrize(("cap", "allowed"), [(None, D), (210.0, 4)])
@pytest.mark.parametrize("test_images", [None, 30])
def test_bayesian_asks_for_what_is_worth_most(
    cap: float | None, allowed: int, test_images: int | None
) -> None:
    sampler = PEPPPSampler(META, MEMORY, measurement_cap=cap, test_images=test_images)
    study = optuna.create_study(sampler=sampler)
    measured: dict[int, float] = {}
    for _ in range(allowed):
        trial = study.ask()
        index = SPACE.index(SPACE.suggest(trial))
        assert index == worthiest(measured, cap=cap, test_images=test_images)
        measured[index] = float(ERRORS[1, index])
        study.tell(trial, measured[index])
    assert sorted(measured) == list(range(allowed))


def test_bayesian_learns_from_repeats_and_from_what_others_measured() -> None:
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY))
    add(study, 4, 0.2)
    add(study, 1, 0.7)
    add(study, 4, 0.4)
    assert next_asked(study) == worthiest({4: 0.3, 1: 0.7})


def test_errors_decide_what_is_asked_next() -> None:
    after = set()
    for error in np.linspace(0, 1, 21):
        study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY))
        add(study, 2, error)
        after.add(next_asked(study))
    assert len(after) > 1


def test_the_number_of_test_images_decides_how_far_errors_are_trusted() -> None:
    def worth(test_images: int | None) -> NDArray[np.float64]:
        """After a single measurement."""
        everything = np.ones(D, dtype=np.bool_)
        known = META.prior, META.worlds, META.committee, MEMORY, everything, everything
        return improvement.worth(*known, [0], [0.5], test_images=test_images)

    for test_images in (None, 3):
        study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY, test_images=test_images))
        add(study, 0, 0.5)
        assert next_asked(study) == worthiest({0: 0.5}, test_images=test_images)
    assert (worth(None) != worth(3)).any()


@pytest.mark.parametrize("waiting", [False, True])
def test_bayesian_takes_what_runs_for_measured_as_predicted(waiting: bool) -> None:
    """Three configurations of one kind, two of another, one of a third, and one beyond the cap."""
    loadings = np.zeros((7, 3))
    loadings[[0, 1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 1, 2, 2]] = (
        *(0.12, 0.11, 0.10),
        *(0.09, 0.08),
        *(0.07, 0.07),
    )
    factors = FactorModel(np.full(7, 0.5), loadings, np.full(7, 1e-4))
    prior = TaskPrior((factors,), scales=np.ones((1, 2)), weights=np.ones((1, 1)))
    space = ConfigurationSpace({"configuration": range(7)})
    half = np.full((2, 7), 0.5)
    meta = MetaModel(space, ("a", "b"), half, loadings, half[0], np.ones(7), prior)
    study = optuna.create_study(sampler=PEPPPSampler(meta, np.arange(1, 8), measurement_cap=6))
    if waiting:
        trial = study.ask()
        for index in (0, 3):
            study.enqueue_trial(space.params(index))
        assert space.suggest(trial) == space.params(5)
    else:
        # Not 0, 1, 2, which is the order of what each of them would tell alone.
        running = [space.index(space.suggest(study.ask())) for _ in range(3)]
        assert running == [0, 3, 5]


def test_two_running_trials_change_what_the_third_is_given() -> None:
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY))
    add(study, 2, 0.45)
    live: list[int] = []
    for _ in range(D - 1):
        live.append(next_asked(study))
        assert live[-1] == worthiest({2: 0.45}, live[:-1])
    assert sorted([2, *live]) == list(range(D))
    assert live[2] != worthiest({2: 0.45}, spent=live[:2])


def test_what_is_measured_once_more_tells_nothing_before_it_ends() -> None:
    for error in (0.1, 0.5, 0.9):
        study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY))
        add(study, 1, error)
        study.enqueue_trial(SPACE.params(1))
        assert next_asked(study) == 1
        everything = np.ones(D, bool)
        known = META.prior, META.worlds, META.committee, MEMORY, everything, everything
        worth = improvement.worth(*known, [1], [error], live=[1])
        np.testing.assert_array_equal(worth, improvement.worth(*known, [1], [error]))
        assert next_asked(study) == worthiest({1: error})


@pytest.mark.parametrize("cap", [None, 5])
def test_a_diverged_training_makes_nothing_certain(cap: float | None) -> None:
    """Far from all that past tasks tell, under the logit: the others are anything but 0 or 1."""
    loadings = np.array([[0.04], [2.0], [0.1], [-2.0], [4.0], [-4.0]])
    factors = FactorModel(np.zeros(6), loadings, np.full(6, 0.003))
    prior = TaskPrior((factors,), np.ones((1, 2)), np.ones((1, 1)), "logit")
    space, half = ConfigurationSpace({"configuration": range(6)}), np.full((2, 6), 0.5)
    meta = MetaModel(space, ("a", "b"), half, loadings, half[0], np.ones(6), prior)
    assert (prior.condition([0], [1.0]).moments().std > 0).all()
    study = optuna.create_study(sampler=PEPPPSampler(meta, np.arange(1, 7), measurement_cap=cap))
    study.enqueue_trial(space.params(0))
    study.optimize(lambda trial: 1.0 - 0.1 * (space.index(space.suggest(trial)) > 0), n_trials=5)
    assert len({trial.params["configuration"] for trial in study.trials}) == 5


def test_bayesian_learns_nothing_from_pruned_and_failed_trials() -> None:
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY))
    first = worthiest({})
    trial = study.ask()
    assert SPACE.index(SPACE.suggest(trial)) == first
    study.tell(trial, state=TrialState.FAIL)
    trial = study.ask()
    second = SPACE.index(SPACE.suggest(trial))
    assert second == worthiest({}, spent=[first])
    trial.report(7.0, step=1)
    study.tell(trial, state=TrialState.PRUNED)
    assert next_asked(study) == worthiest({}, spent=[first, second])


def test_bayesian_goes_on_from_what_is_enqueued() -> None:
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY))
    study.enqueue_trial(SPACE.params(5))
    study.enqueue_trial({"learning_rate": 0.01})
    assert next_asked(study) == 5
    # The rest of the second is chosen to go with it.
    agreeing = SPACE.matching({"learning_rate": 0.01})
    others = [index for index in range(D) if index not in agreeing]
    second = next_asked(study)
    assert second == worthiest({}, [5], spent=others)
    assert next_asked(study) == worthiest({}, [5, second])


def test_enqueued_configurations_beyond_the_cap_are_measured_and_learned_from() -> None:
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY, measurement_cap=210))
    study.enqueue_trial(SPACE.params(5))
    study.enqueue_trial({"format_a": "1-4-3"})
    study.optimize(lambda trial: ERRORS[0, SPACE.index(SPACE.suggest(trial))], n_trials=2)
    assert [SPACE.index(trial.params) for trial in study.trials] == [5, 4]
    assert next_asked(study) == worthiest({5: ERRORS[0, 5], 4: ERRORS[0, 4]}, cap=210)


NO_ERRORS = [1.5, 54.0, -0.1, float("inf"), -float("inf")]


@pytest.mark.parametrize("error", NO_ERRORS)
def test_what_is_no_error_tells_nothing_and_is_warned_of_once(error: float) -> None:
    study = optuna.create_study(study_name="task", sampler=PEPPPSampler(META, MEMORY))
    add(study, 3, 0.5)
    trial = study.ask()
    index = SPACE.index(SPACE.suggest(trial))
    with pytest.warns(
        UserWarning,
        match=rf"^ignored: trial 1 of study 'task' must report an error between .*; got {error}$",
    ) as caught:
        study.tell(trial, error)
    assert len(caught) == 1
    # Any further warning is an error here. It comes last, as what failed does.
    asked_for = [next_asked(study) for _ in range(D - 1)]
    assert asked_for[0] == worthiest({3: 0.5}, spent=[index])
    assert sorted(asked_for) == sorted({*range(D)} - {3})
    assert asked_for[-1] == index


def test_a_new_sampler_warns_once_of_all_that_is_no_error() -> None:
    study = optuna.create_study(study_name="task")
    for index in range(3):
        add(study, index, 54.0 + index)
    study.sampler = PEPPPSampler(META, MEMORY)
    with pytest.warns(
        UserWarning, match=r"trial 0 .*; got 54\.0 \(2 more trials like it\)$"
    ) as caught:
        next_asked(study)
    assert len(caught) == 1
    study.sampler = pickle.loads(pickle.dumps(study.sampler))
    next_asked(study)


def test_rounding_noise_is_no_reason_to_stop() -> None:
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY))
    study.optimize(lambda trial: (SPACE.index(SPACE.suggest(trial)) % 2) * (1 + 2e-10) - 1e-10, 4)
    measured = {SPACE.index(trial.params): trial.values[0] for trial in study.trials}
    assert len(measured) == 4
    clipped = {index: min(max(error, 0.0), 1.0) for index, error in measured.items()}
    assert next_asked(study) == worthiest(clipped)


@pytest.mark.parametrize("strategy", get_args(Strategy))
@pytest.mark.parametrize("name", SPACE.names)
def test_an_objective_that_asks_for_some_names_tells_nothing_but_goes_on(
    strategy: Strategy, name: str
) -> None:
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY, strategy=strategy, seed=0))
    choices = SPACE.choices[name]

    def objective(trial: Trial) -> float:
        return 0.01 * trial.number + 0.0 * (trial.suggest_categorical(name, choices) in choices)

    with pytest.warns(UserWarning, match="^nothing is learned: .* no completed trial fits") as told:
        study.optimize(objective, n_trials=len(choices))
    assert len(told) == 1
    assert {trial.params[name] for trial in study.trials} == set(choices)
    # Each takes another value, and what they report has no say.
    if strategy == "bayesian":
        assert next_asked(study) == worthiest({})


def test_trials_of_some_names_are_not_worth_a_warning_beside_whole_ones() -> None:
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY))
    add(study, 2, 0.5)
    trial = study.ask()
    trial.suggest_categorical("format_a", SPACE.choices["format_a"])
    study.tell(trial, 0.0)
    free = np.setdiff1d(np.arange(D), SPACE.matching(trial.params))
    assert next_asked(study) == worthiest({2: 0.5}, spent=np.setdiff1d(np.arange(D), free).tolist())


@pytest.mark.parametrize(
    ("failed", "measured", "first"),
    [
        ([4, 5], {}, [0, 1, 2, 3]),
        ([3, 5], {}, [0, 1, 2]),
        ([3, 4], {1: 0.5}, [0, 2]),
        # One failure is no sign of a full memory, nor are those of few bits.
        ([3], {}, [0, 1, 2, 4, 5]),
        ([3, 3], {}, [0, 1, 2, 4, 5]),
        ([0, 1], {3: 0.5}, [2, 4, 5]),
        ([3, 5], {4: 0.5}, [0, 1, 2]),
        # It is an order only.
        ([0, 1], {}, [2, 3, 4, 5]),
    ],
)
@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_where_large_ones_fail_smaller_ones_come_first(
    strategy: Strategy, failed: list[int], measured: dict[int, float], first: list[int]
) -> None:
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY, strategy=strategy, seed=0))
    for index in failed:
        add(study, index, 0.0, TrialState.FAIL)
    for index, error in measured.items():
        add(study, index, error)
    order = [next_asked(study) for _ in range(D - len(measured))]
    assert sorted(order[: len(first)]) == first
    assert sorted([*order, *measured]) == list(range(D))
    assert set(order[-len(set(failed)) :]) == set(failed)


def test_errors_of_other_spaces_are_not_ours_to_refuse() -> None:
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY))
    trial = study.ask()
    study.tell(trial, trial.suggest_float("width", 3, 4))
    assert next_asked(study) == worthiest({})


def test_a_pickled_bayesian_sampler_asks_for_the_same() -> None:
    sampler = PEPPPSampler(META, MEMORY, measurement_cap=210, test_images=30)
    copy = pickle.loads(pickle.dumps(sampler))
    studies = [optuna.create_study(sampler=each) for each in (sampler, copy)]
    for study in studies:
        study.enqueue_trial(SPACE.params(4))
        study.optimize(lambda trial: ERRORS[0, SPACE.index(SPACE.suggest(trial))], n_trials=4)
    once, again = ([SPACE.index(trial.params) for trial in study.trials] for study in studies)
    assert once == again
    assert once[1] == worthiest({4: ERRORS[0, 4]}, cap=210, test_images=30)


# Caps and arguments


@pytest.mark.parametrize("strategy", get_args(Strategy))
@pytest.mark.parametrize(("cap", "allowed"), [(210, 4), ("0.21 kB", 4), (209.5, 3), ("1GB", D)])
def test_measurement_cap(strategy: Strategy, cap: str | float, allowed: int) -> None:
    sampler = PEPPPSampler(META, MEMORY, strategy=strategy, measurement_cap=cap)
    assert sorted(asked(sampler, allowed)) == list(range(allowed))


@pytest.mark.parametrize("cap", ["99B", 99.9])
def test_measurement_cap_below_every_configuration(cap: str | float) -> None:
    with pytest.raises(ValueError, match=rf"measurement_cap .* smallest needs 100 B; got {cap!r}"):
        PEPPPSampler(META, MEMORY, measurement_cap=cap)


def test_measurement_cap_that_is_no_size() -> None:
    with pytest.raises(ValueError, match=r"size must be a positive number of bytes .* 'lots'"):
        PEPPPSampler(META, MEMORY, measurement_cap="lots")


def test_the_portfolio_needs_past_tasks() -> None:
    with pytest.raises(ValueError, match="another one than 'portfolio' without past tasks"):
        PEPPPSampler(MetaModel.cold(SPACE), MEMORY, strategy="portfolio")


def test_unknown_strategy() -> None:
    strategy: Any = "grid"
    with pytest.raises(
        ValueError,
        match="must be 'bayesian', 'portfolio', 'ed-mf', 'qr-mf' or 'random-mf'; got 'grid'",
    ):
        PEPPPSampler(META, MEMORY, strategy=strategy)


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        (MEMORY[:-1], r"memory must have shape \(6,\)"),
        (MEMORY.reshape(2, 3), r"memory must have shape \(6,\)"),
        (np.where(MEMORY == 200, np.nan, MEMORY), r"memory\[2\]"),
        (-MEMORY, r"memory\[0\]"),
    ],
)
def test_bad_memory(memory: ArrayLike, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PEPPPSampler(META, memory)


@pytest.mark.parametrize("test_images", [0, -1, float("nan")])
def test_bad_test_images(test_images: Any) -> None:
    with pytest.raises(ValueError, match=f"test_images must be a positive .* got {test_images}$"):
        PEPPPSampler(META, MEMORY, test_images=test_images)


class _Spy(RandomSampler):
    """Records what is delegated to it."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.calls: list[object] = []

    def reseed_rng(self) -> None:
        self.calls.append("reseed_rng")

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.calls.append(("before_trial", trial.number))

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self.calls.append(("after_trial", trial.number, state, values))


def test_the_independent_sampler_sees_every_trial() -> None:
    spy = _Spy()
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY, independent_sampler=spy))
    study.tell(study.ask(), 0.5)
    study.tell(study.ask(), state=TrialState.FAIL)
    study.sampler.reseed_rng()
    assert spy.calls == [
        ("before_trial", 0),
        ("after_trial", 0, TrialState.COMPLETE, [0.5]),
        ("before_trial", 1),
        ("after_trial", 1, TrialState.FAIL, None),
        "reseed_rng",
    ]


def test_reseeding_keeps_the_random_order() -> None:
    sampler = PEPPPSampler(META, MEMORY, strategy="random-mf", seed=0)
    sampler.reseed_rng()
    assert asked(sampler) == random_order(D, 0)


def test_the_seed_is_the_default_independent_samplers() -> None:
    def foreign(seed: int) -> float:
        study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY, seed=seed))
        return study.ask().suggest_float("x", 0, 1)

    assert foreign(0) == foreign(0) != foreign(1)


def test_sample_relative_answers_any_space() -> None:
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY))
    study.ask()
    frozen = study.get_trials()[0]
    search_space = {"x": optuna.distributions.IntDistribution(3, 3), **SPACE.distributions()}
    params = study.sampler.sample_relative(study, frozen, search_space)
    assert params["x"] == 3
    assert SPACE.index(params) == worthiest({})


def test_a_single_choice_is_never_asked_for() -> None:
    space = ConfigurationSpace({"format_a": ["1-4-3"], "learning_rate": [0.1, 0.01]})
    errors = np.array([[0.2, 0.1], [0.3, 0.2]])
    meta = MetaModel.fit(ErrorMatrix(space, ("a", "b"), errors, np.ones((2, 2))))
    study = optuna.create_study(sampler=PEPPPSampler(meta, [1, 1]))

    def objective(trial: Trial) -> float:
        return float(errors[0, space.index(space.suggest(trial))])

    study.optimize(objective, n_trials=4)
    assert sorted(trial.params["learning_rate"] for trial in study.trials) == [0.01, 0.1]
