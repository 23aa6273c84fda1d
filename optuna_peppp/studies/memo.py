"""What a tuned study remembers: its experiment, its memory, and what its meta-model learned from.

Memory is a vector in the order of the configurations, so that it means something only beside the
choices that it was computed for. Those are kept, and a checksum of the measurements that were
learned from: a corpus that has changed since is noticed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.configurations.named_spaces import SPACES, named_space
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.catalog import read_corpus
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.meta.model import MetaModel

DEFAULT_CORPUS: Final = "plain3-cifar100"
"""The past tasks to learn from, unless others are named."""

SHIPPED: Final = {"paper": DEFAULT_CORPUS, "hardware": "plain3-cifar100-hardware"}
"""The corpus that ships of every space that has a name."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is learned from: a corpus with a rank, a meta-model, or the space itself.

    Attributes:
        corpus: The name of a corpus that ships, or the absolute path of a CSV file; None beside
            a meta-model.
        rank: Rank of the meta-model that is fitted to it, None for the best.
        meta: The absolute path of a saved meta-model, or None.
        space: The name of a space or the absolute path of its file, where there are no past tasks.
    """

    corpus: str | None
    rank: int | None
    meta: str | None
    space: str | None = None

    @classmethod
    def named(
        cls,
        corpus: str | None,
        rank: int | None,
        meta: str | None,
        space: str | None = None,
    ) -> Self:
        """The source that a user names; files by the path that holds in any folder.

        Raises:
            ValueError: A meta-model or a space is given and something else, too; or the space is
                none.
        """
        if space is not None:
            if (corpus, rank, meta) != (None, None, None):
                raise ValueError(
                    f"the space {space} is tuned without past tasks, which have a space of their "
                    "own; give it, or what to learn from"
                )
            named_space(space)  # which tells what is wrong by the name that was given
            return cls(None, None, None, space if space in SPACES else str(Path(space).absolute()))
        if meta is not None:
            if (corpus, rank) != (None, None):
                raise ValueError(
                    f"the meta-model {meta} was fitted already, so that corpus and rank do not go "
                    "with it; give one or the other"
                )
            return cls(None, None, str(Path(meta).absolute()))
        corpus = corpus or DEFAULT_CORPUS
        return cls(str(Path(corpus).absolute()) if corpus.endswith(".csv") else corpus, rank, None)

    def __str__(self) -> str:
        return self.meta or self.space or self.corpus or DEFAULT_CORPUS

    def learn(self) -> tuple[MetaModel, str]:
        """The meta-model, and the checksum of the measurements behind it.

        Raises:
            ValueError: As :meth:`read`.
        """
        read = self.read()
        if isinstance(read, ErrorMatrix):
            return MetaModel.fit(read, rank=self.rank), _checksum_of_corpus(read)
        return read, _checksum(read.tasks, read.errors, read.embeddings)

    def read(self) -> ErrorMatrix | MetaModel:
        """The past tasks, or the meta-model that was fitted to them or to nothing.

        Raises:
            ValueError: The source is gone, or is none.
        """
        if self.space is not None:
            return MetaModel.cold(named_space(self.space))
        try:
            if self.meta is None:
                return read_corpus(self.corpus or DEFAULT_CORPUS)
            return MetaModel.load(self.meta)
        except FileNotFoundError as problem:
            maker = "there is no corpus" if self.meta is None else "there is no meta-model"
            remedy = "`optuna-peppp fit` writes one" if self.meta else "name another --corpus"
            raise ValueError(f"{maker} {self}; {remedy}") from problem


@dataclass(frozen=True, slots=True, eq=False)
class Memo:
    """What is stored with a study.

    Attributes:
        experiment: The settings of the trainings, by name.
        source: What was learned from.
        memory: (d,) bytes of every configuration.
        choices: The names that are tuned with their choices, in order; None in old studies.
        checksum: Of the measurements that were learned from; None in old studies.
        classes: (d,), which configurations are one training; None where no two are.
    """

    experiment: dict[str, Any]
    source: Source
    memory: NDArray[np.float64]
    choices: tuple[tuple[str, tuple[Any, ...]], ...] | None
    checksum: str | None
    classes: NDArray[np.intp] | None = None

    @classmethod
    def parse(cls, stored: object, study: str) -> Self:
        """Reads what is stored, which anybody may have written.

        Args:
            stored: The study's attribute.
            study: The study, for messages.

        Raises:
            ValueError: It is not what :meth:`stored` makes.
        """
        try:
            return cls._parse(stored)
        except (KeyError, TypeError, ValueError, OverflowError) as problem:
            raise ValueError(
                f"{study} does not hold what `tune` stores with a study (attribute "
                f"'optuna_peppp': {problem}); choose another study"
            ) from problem

    @classmethod
    def _parse(cls, stored: object) -> Self:
        fields = _typed(stored, dict, "itself")
        kinds = {"corpus": str, "rank": int, "meta": str, "space": str, "checksum": str}
        for name, kind in kinds.items():
            if fields.get(name) is not None:
                _typed(fields[name], kind, name)
        memory = _typed(fields.get("memory"), list, "memory")
        if not memory or not all(_is_size(size) for size in memory):
            raise ValueError("memory must be a list of positive numbers")
        choices = fields.get("choices")
        if choices is not None:
            choices = tuple(
                (_typed(name, str, "choices"), tuple(_typed(values, list, "choices")))
                for name, values in (_typed(item, list, "choices") for item in choices)
            )
        classes = fields.get("classes")
        if classes is not None:
            classes = np.array(_typed(classes, list, "classes"))
            if classes.shape != (len(memory),) or classes.dtype.kind != "i":
                raise ValueError("classes must be integers, as many as memory has sizes")
        corpus, rank, meta, space, checksum = (fields.get(name) for name in kinds)
        return cls(
            _typed(fields.get("experiment"), dict, "experiment"),
            Source(corpus, rank, meta, space),
            np.array(memory, dtype=np.float64),
            choices,
            checksum,
            classes,
        )

    def stored(self) -> dict[str, Any]:
        """The study's attribute."""
        choices = [[name, list(values)] for name, values in self.choices or ()]
        return {
            "experiment": self.experiment,
            **asdict(self.source),
            "memory": self.memory.tolist(),
            "choices": choices,
            "checksum": self.checksum,
            **({} if self.classes is None else {"classes": self.classes.tolist()}),
        }

    def check_space(self, space: ConfigurationSpace, source: Source, study: str) -> None:
        """Refuses a space in which the study's memory would stand under wrong names.

        Args:
            space: What ``source`` tunes now.
            source: What is learned from now.
            study: The study, for messages.

        Raises:
            ValueError: The space is another than the study's.
        """
        now = tuple(space.choices.items())
        if self.choices is None:
            if len(self.memory) != len(space):
                raise ValueError(
                    f"{study} was tuned over {len(self.memory)} configurations, but {source} has "
                    f"{len(space)} now; learn from what it learned from, or choose another study"
                )
        elif self.choices != now:
            raise ValueError(
                f"{study} was tuned over other configurations than {source} has now: "
                f"{_difference(self.choices, now)}. Learn from what it learned from, or choose "
                "another study"
            )


def _difference(
    before: Sequence[tuple[str, tuple[Any, ...]]], now: Sequence[tuple[str, tuple[Any, ...]]]
) -> str:
    """What differs first between two spaces that differ."""
    names, names_now = ([name for name, _ in choices] for choices in (before, now))
    if names != names_now:
        return f"it tuned {', '.join(names)}, not {', '.join(names_now)}"
    name, values, values_now = next(
        (name, values, later)
        for (name, values), (_, later) in zip(before, now, strict=True)
        if values != later
    )
    gone = [str(value) for value in values if value not in values_now]
    new = [str(value) for value in values_now if value not in values]
    if not gone and not new:
        return f"the choices of {name} stand in another order"
    parts = [("lacks", gone), ("has", new)]
    return f"{name} " + " and ".join(
        f"{verb} {', '.join(some[:5])}" for verb, some in parts if some
    )


def _is_size(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _typed(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{name} must be of type {kind.__name__}; got {type(value).__name__}")
    return value


def _checksum_of_corpus(matrix: ErrorMatrix) -> str:
    return _checksum((*matrix.tasks, *matrix.models), matrix.errors)


def _checksum(names: Sequence[str], *arrays: NDArray[np.float64]) -> str:
    """SHA-256 of tasks and numbers: a file that says the same otherwise is the same."""
    digest = hashlib.sha256(json.dumps(list(names)).encode())
    for array in arrays:
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    return digest.hexdigest()
