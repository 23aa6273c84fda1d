"""The baseline of a study: what its experiment reaches in float32, and what that needs."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Self

from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.studies.bar import EpochBar, in_a_line, say_of

if TYPE_CHECKING:
    import optuna

    from optuna_peppp.lowprecision import Experiment

_ATTRIBUTE: Final = "optuna_peppp_baseline"
"""The study attribute that keeps it."""

_SPACE: Final = ConfigurationSpace({"format_a": ["1-8-23"], "format_b": ["1-8-23"]})
"""Formats in which every float32 is itself: the compiled training step serves them, too."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A training in float32.

    Attributes:
        error: Its test error.
        memory: Its memory in bytes.
    """

    error: float
    memory: float

    @classmethod
    def of(cls, study: optuna.Study) -> Self | None:
        """What a study keeps, None where it was not measured or anybody wrote something else."""
        stored = study.user_attrs.get(_ATTRIBUTE)
        if not isinstance(stored, dict):
            return None
        error, memory = stored.get("error"), stored.get("memory")
        if not isinstance(error, int | float) or not isinstance(memory, int | float):
            return None
        return cls(error, memory) if 0 <= error <= 1 and 0 < memory < float("inf") else None

    @classmethod
    def measure(cls, experiment: Experiment, study: optuna.Study, bar: EpochBar) -> None:
        """Trains in float32 and keeps what comes of it with the study.

        Raises:
            ValueError: The training refuses its arguments.

        Warns:
            UserWarning: The training fails.
        """
        memory = float(experiment.memory(_SPACE)[0])
        bar.expect(experiment.epochs)
        bar.begin("float32")
        try:
            result = experiment.measure(_SPACE.params(0), bar.epoch)
        except (ValueError, OSError):
            raise
        except Exception as problem:
            warnings.warn(f"the training in float32 failed: {in_a_line(problem)}", stacklevel=2)
            return
        study.set_user_attr(_ATTRIBUTE, asdict(cls(result.error, memory)))
        say_of("float32", memory, f"error {result.error:.4f}")
