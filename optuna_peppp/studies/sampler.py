"""The Optuna sampler: which configuration is worth measuring next.

Everything is recomputed from the trials that the study holds, so that a pickled, restarted or
concurrent sampler behaves like the one it replaces. Notation: d configurations, indexed as in
the meta-model's space. A configuration is *spent* by a trial that measured it or was pruned, or by
three trials that came to nothing; *live* while a trial that holds it is running or waiting in the
queue; and *free* otherwise.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import TrialState

from optuna_peppp.acquisition.improvement import feared
from optuna_peppp.acquisition.strategies import STRATEGIES, Progress
from optuna_peppp.choices import Strategy, check_choice
from optuna_peppp.configurations.cost import Cost
from optuna_peppp.corpora.measurements import validate_test_images
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.studies.checks import (
    check_minimized,
    check_same_space,
    tell_of_noise,
    tell_of_nothing_taken,
    warn_of_ignored,
    warn_of_objectives,
)
from optuna_peppp.studies.trials import (
    Usage,
    checked_classes,
    claim,
    configuration_of,
    other_trials,
)

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial


class PEPPPSampler(BaseSampler):
    """Asks for the configuration whose measurement tells most about all the others.

    The names of the meta-model's space are sampled together, one whole configuration a trial,
    and every other name by ``independent_sampler``; a study that uses none of the names is
    left to it. No configuration is measured twice while a free one remains, in parallel
    workers too: a worker writes its claim into the trial, reads again, and yields if another
    live trial holds the same configuration.

    - Enqueued parameters are kept, and the rest of the configuration is chosen to go with them.
      They win over ``measurement_cap``.
    - A configuration whose trial came to nothing is free again, but comes after all free ones
      that have not failed, those with the fewest failures first; after three failures it is
      spent. Trials come to nothing that fail, of killed workers too (memory may have run out),
      that report no error between 0 and 1 (to 1e-6), and that finish without a value for every
      name, which count for every configuration they agree with. They tell the design nothing.
    - Where two or more configurations failed that need more memory than all that were measured,
      those that need as much as the smallest of these come after the others that have not
      failed: memory has probably run out. Nothing is ever excluded.
    - A pruned configuration is spent, since the pruner would most likely stop it again, but it
      has no final error and tells the design nothing.
    - Live configurations are offered again only when no free one remains (their workers may be
      dead). When all are spent, ``study.optimize`` is stopped; whoever asks on gets the least
      measured configurations, in the order of the design.

    The study's first objective is the error, minimized; any others are the user's own, memory
    for example, which is known here and not read from the trials. Constraints
    (``trial.set_constraint``) do not change what is asked for; :func:`~optuna_peppp.predict`
    heeds them. A warning tells once of each trial that reported no error, of more than two
    objectives, and of a second one that is not the memory given; the log tells of an objective
    that takes none of the names, and of other names that vary: their effect is noise here.

    Args:
        meta: The meta-model, fitted to past tasks; its space is what is sampled.
        memory: Shape (d,), bytes of every configuration on the new task; or another
            :class:`~optuna_peppp.Cost`, such as latency.
        strategy: ``"bayesian"``, the configuration that is worth most to the frontier, or, where
            a measurement cap hides some, tells most about all (:func:`acquisition.worth`), given
            everything measured and, as if it had come out as predicted, everything live;
            ``"portfolio"``, the fixed order that the past tasks, together, would have wanted,
            whatever is found (zero-shot);
            ``"ed-mf"``, greedy D-optimal design continued from everything measured or live
            (paper, Algorithm 2); ``"qr-mf"``, the pivots of a QR factorization of the error
            matrix; ``"random-mf"``, uniformly at random.
        measurement_cap: The memory that a measurement may take, in bytes or as text such as
            ``"275MB"``, in the unit of the cost where that is another; None for no limit.
        test_images: How many images an error is counted on, where known: the fewer, the less
            ``"bayesian"`` trusts it.
        classes: Shape (d,), equal integers for configurations that are the same training, so that
            one measurement is all of theirs; None where no two are.
        independent_sampler: The sampler of all other names; by default
            :class:`optuna.samplers.RandomSampler` with ``seed``.
        seed: Seed of the random order and of the default independent sampler.

    Raises:
        ValueError: ``meta`` is no meta-model; an unknown strategy; ``memory`` of the wrong length,
            or with entries that are not positive numbers; a measurement cap below every
            configuration; ``test_images`` that is not positive; ``"portfolio"`` without past tasks.
    """

    def __init__(
        self,
        meta: MetaModel,
        memory: ArrayLike | Cost,
        *,
        strategy: Strategy = "bayesian",
        measurement_cap: str | float | None = None,
        test_images: int | None = None,
        classes: ArrayLike | None = None,
        independent_sampler: BaseSampler | None = None,
        seed: int | None = None,
    ) -> None:
        check_choice("strategy", strategy, get_args(Strategy))
        if not isinstance(meta, MetaModel):
            raise ValueError(
                "meta must be a MetaModel, as MetaModel.fit(corpus) and MetaModel.load(path) "
                f"return; got {type(meta).__name__}"
            )
        if strategy == "portfolio" and not meta.tasks:
            raise ValueError(
                "strategy must be another one than 'portfolio' without past tasks, whose order it "
                "is; take 'bayesian', or a meta with past tasks, as MetaModel.fit(corpus) returns"
            )
        self._meta = meta
        self._strategy = strategy
        validate_test_images(test_images)
        self._test_images = test_images
        self._space = meta.space
        self._distributions = meta.space.distributions()
        self._cost = Cost.of(memory, meta.space)
        self._memory = self._cost.array
        self._feasible = _feasible(self._cost, measurement_cap)
        self._classes = None if classes is None else checked_classes(classes, meta.space)
        if self._classes is not None:  # the first of a class is measured for all
            self._feasible &= self._classes == np.arange(len(meta.space))
        self._independent_sampler = (
            RandomSampler(seed) if independent_sampler is None else independent_sampler
        )
        self._warned: set[tuple[str, object]] = set()
        self._seed = secrets.randbits(32) if seed is None else seed

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Nothing: our names are answered when they are asked for.

        Only then is it known that the objective uses them, and from which choices.
        """
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A value for every name of ``search_space``, each as :meth:`sample_independent` does."""
        return {
            name: self.sample_independent(study, trial, name, distribution)
            for name, distribution in search_space.items()
        }

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The value of one name in the trial's configuration, which is chosen at the first call.

        Raises:
            ValueError: The objective, or an earlier trial of the study, chooses the name from
                other values than the meta-model's space does; or the study's first objective is
                maximized.
        """
        ours = self._distributions.get(param_name)
        if ours is None:
            return self._independent_sampler.sample_independent(
                study, trial, param_name, param_distribution
            )
        if param_distribution != ours:
            raise ValueError(
                f"the objective must choose {param_name!r} from {self._space.choices[param_name]}, "
                f"as the meta-model's space does; got {param_distribution}. Use "
                "meta.space.suggest(trial), or give this parameter another name"
            )
        index = configuration_of(trial, self._space)
        if index is None:
            index = self._claim(study, trial)
        return self._space.params(index)[param_name]

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Leaves the preparation of a trial to the independent sampler."""
        self._independent_sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Stops ``study.optimize`` when every configuration under the cap is spent."""
        self._independent_sampler.after_trial(study, trial, state, values)
        if trial.params.keys().isdisjoint(self._distributions):
            if state == TrialState.COMPLETE:
                tell_of_nothing_taken(study, trial, self._space, self._warned)
            return
        if state == TrialState.COMPLETE:
            tell_of_noise(study, trial, self._space, self._warned)
        ended = copy.copy(trial)
        ended.state, ended.values = state, values
        trials = other_trials(study, trial)
        usage = self._usage([*trials, ended])
        warn_of_ignored(study, usage, self._space, self._warned)
        warn_of_objectives(study, usage, self._cost, self._warned)
        queued = any(other.state == TrialState.WAITING for other in trials)
        if usage.spent[self._feasible].all() and not queued:
            with contextlib.suppress(RuntimeError):  # asked by study.ask(): nothing to stop
                study.stop()

    def reseed_rng(self) -> None:
        """Reseeds the independent sampler; the order of the configurations stays."""
        self._independent_sampler.reseed_rng()

    def _claim(self, study: Study, trial: FrozenTrial) -> int:
        """Chooses a configuration for the trial."""
        candidates = self._candidates(
            {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        )
        check_minimized(study)
        trials = other_trials(study, trial)
        check_same_space(study, trials, self._space)
        usage = self._usage(trials)
        warn_of_ignored(study, usage, self._space, self._warned)
        warn_of_objectives(study, usage, self._cost, self._warned)
        choose = functools.partial(self._choose, candidates)
        return claim(study, trial, self._space, trials, usage, choose)

    def _usage(self, trials: Sequence[FrozenTrial]) -> Usage:
        """How trials use the configurations, those of one class together."""
        usage = Usage.of(trials, self._space)
        return usage if self._classes is None else usage.shared(self._classes)

    def _candidates(self, fixed: Mapping[str, Any]) -> NDArray[np.intp]:
        """The configurations under the cap that agree with ``fixed``, at least one.

        Names and values that are not of the space do not count: Optuna itself refuses them.
        """
        agreeing = self._space.matching(fixed)
        feasible = agreeing[self._feasible[agreeing]]
        if feasible.size:
            return feasible
        return agreeing[[np.argmin(self._memory[agreeing])]]

    def _choose(self, candidates: NDArray[np.intp], usage: Usage) -> int:
        """The next configuration, among the candidates that :meth:`_least_tried` leaves."""
        offered = np.zeros(len(self._space), dtype=np.bool_)
        offered[self._least_tried(candidates, usage)] = True
        return STRATEGIES[self._strategy].choose(
            Progress(
                self._meta,
                self._memory,
                considered=np.ones_like(offered),
                feasible=self._feasible,
                indices=usage.indices,
                errors=usage.errors,
                seed=self._seed,
                live=np.flatnonzero(usage.live),
                offered=offered,
                test_images=self._test_images,
            )
        )

    def _least_tried(self, candidates: NDArray[np.intp], usage: Usage) -> NDArray[np.intp]:
        """The candidates that are least spent, of these least live, and least failed."""
        risky = feared(self._memory, np.flatnonzero(usage.finished), usage.broken)
        for count in (usage.spent, usage.live, usage.failures, risky):
            candidates = candidates[count[candidates] == count[candidates].min()]
        return candidates


def _feasible(cost: Cost, cap: str | float | None) -> NDArray[np.bool_]:
    """Shape (d,), true where a configuration may be measured."""
    feasible: NDArray[np.bool_] = cost.upper_bound <= cost.parse(cap)
    if not feasible.any():
        raise ValueError(
            "measurement_cap must leave a configuration to measure, of which the smallest needs "
            f"{cost.format(cost.upper_bound.min())}; got {cap!r}"
        )
    return feasible
