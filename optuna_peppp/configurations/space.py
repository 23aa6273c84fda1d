"""The finite, ordered product of everything that is tuned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final, Self, cast

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.configurations.hardware import (
    ACTIVATIONS,
    FORMAT_NAMES,
    MASTERS,
    STATES,
    WAYS,
    names_formats,
    recipe_of,
)
from optuna_peppp.configurations.precision import FORMATS_A, FORMATS_B, Precision
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.values import AnyFormat, Value, builtin_value
from optuna_peppp.text import rounded_count

__all__ = ["LIMIT", "ConfigurationSpace", "Value"]

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import BaseTrial

LIMIT: Final = 10**6
"""Number of configurations of a space at most: each takes part in every prediction."""

_SHOWN: Final = 8
"""So many values are shown in a message at most."""


class ConfigurationSpace:
    """An ordered finite product of named choices; the last name varies fastest.

    Configuration ``j`` is the ``j``-th element of the product, as in the paper's matrices:
    Format A by Format B, Format B fastest.

    Args:
        choices: The values of every tuned name, in order. Values of ``format_a`` and
            ``format_b`` are formats (text or :class:`FloatFormat`), all others strings, ints,
            floats and truth values, such as ``{"learning_rate": [0.01, 0.001]}``. NumPy's
            become Python's own; formats of any family become text under the names of formats.

    Raises:
        ValueError: No name, an empty or repeated choice, a value of another type, a format
            that cannot be read, or more than 10**6 configurations.

    >>> space = ConfigurationSpace({"format_a": ["1-3-1", "1-4-3"], "learning_rate": [0.1, 0.01]})
    >>> len(space), space.params(3)
    (4, {'format_a': '1-4-3', 'learning_rate': 0.01})
    >>> space.index({"format_a": "1-4-3", "learning_rate": 0.1})
    2
    """

    __slots__ = ("_choices", "_positions", "_size")

    def __init__(self, choices: Mapping[str, Iterable[Value | AnyFormat]]) -> None:
        self._choices: dict[str, tuple[Value, ...]] = {}
        size = 1
        for name, values in choices.items():
            if isinstance(values, str) or not isinstance(values, Iterable):
                raise ValueError(f"choices[{name!r}] must be a list of values; got {values!r}")
            # What is too long is not read to its end.
            plain = tuple(builtin_value(name, value) for value in islice(values, LIMIT + 1))
            if not plain:
                raise ValueError(f"choices[{name!r}] must hold at least one value; got none")
            if len(plain) > LIMIT:
                raise ValueError(
                    f"choices[{name!r}] must hold at most {LIMIT:,} values, the limit of a "
                    f"space's configurations; got more. Give it fewer"
                )
            if len(set(plain)) < len(plain):
                raise ValueError(
                    f"choices[{name!r}] must not repeat a value, as which 1, 1.0 and True count; "
                    f"got {_shortened(plain)}"
                )
            self._choices[name] = plain
            size *= len(plain)
        if not self._choices:
            raise ValueError("choices must hold at least one name; got none")
        if size > LIMIT:
            raise ValueError(
                f"choices must make at most {LIMIT:,} configurations; {len(self._choices)} "
                f"names make {rounded_count(size)}. Tune fewer names, or give them fewer values"
            )
        self._positions = {
            name: {value: position for position, value in enumerate(values)}
            for name, values in self._choices.items()
        }
        self._size = size

    @classmethod
    def paper(cls) -> Self:
        """The paper's 99 configurations: Table 3 by Table 4."""
        return cls({"format_a": FORMATS_A, "format_b": FORMATS_B})

    @classmethod
    def hardware(cls) -> Self:
        """132 configurations of what hardware and optimizers offer.

        Formats of activations, which products read or which are only kept for the backward pass,
        by formats of optimizer states and of master weights: the arguments of
        :meth:`Recipe.hardware`. A space of fewer choices, or of more names such as
        ``learning_rate`` and ``optimizer``, is one of ``choices``.

        >>> space = ConfigurationSpace.hardware()
        >>> len(space), space.params(131)["activations"]
        (132, 'int2@256/minmax')
        """
        return cls({"activations": ACTIVATIONS, "states": STATES, "master": MASTERS})

    @classmethod
    def assignments(
        cls,
        low: Iterable[AnyFormat | str] = ("1-3-1", "1-3-2"),
        high: Iterable[AnyFormat | str] = ("1-4-3",),
        format_b: Iterable[AnyFormat | str] = ("1-6-9",),
        *,
        demotion: Iterable[float] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
        order: Iterable[str] = ("decreasing",),
        promotion: Iterable[str] = ("off",),
    ) -> Self:
        """Precision assignments: which tensors have which of two formats.

        The product of all choices. Some come to one assignment, as all low formats do where nothing
        is demoted.

        Args:
            low: Formats of demoted weights, activations and their gradients.
            high: Formats of those that are not demoted.
            format_b: Formats of the optimizer, of input and of logits, as Format B is.
            demotion: As for :class:`~optuna_peppp.configurations.assignments.Rule`.
            order: As above.
            promotion: As above, as text, and ``"off"`` for none.

        >>> len(ConfigurationSpace.assignments())
        12
        """
        choices = {"format_low": low, "format_high": high, "format_b": format_b}
        return cls({**choices, "demotion": demotion, "order": order, "promotion": promotion})

    @property
    def choices(self) -> dict[str, tuple[Value, ...]]:
        """The values of every name, in order."""
        return dict(self._choices)

    @property
    def names(self) -> tuple[str, ...]:
        """The tuned names, in order."""
        return tuple(self._choices)

    def __len__(self) -> int:
        return self._size

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ConfigurationSpace):
            return NotImplemented
        return list(self._choices.items()) == list(other._choices.items())

    def __hash__(self) -> int:
        return hash(tuple(self._choices.items()))

    def __repr__(self) -> str:
        return f"ConfigurationSpace({self._choices!r})"

    def params(self, index: int) -> dict[str, Value]:
        """The parameters of one configuration.

        Raises:
            IndexError: ``index`` is not between 0 and ``len(self) - 1``.
        """
        if not 0 <= index < self._size:
            raise IndexError(f"index must be between 0 and {self._size - 1}; got {index}")
        params: dict[str, Value] = {}
        remaining = int(index)
        for name, values in reversed(self._choices.items()):
            remaining, position = divmod(remaining, len(values))
            params[name] = values[position]
        return {name: params[name] for name in self._choices}

    def index(self, params: Mapping[str, object]) -> int:
        """The index of a configuration; names that are not of this space are ignored.

        Raises:
            ValueError: A name is missing, or its value is not one of its choices.
        """
        index = 0
        try:
            for name, positions in self._positions.items():
                index = index * len(positions) + positions[params[name]]  # type: ignore[index]
        except (KeyError, TypeError):
            raise ValueError(self._misfit(params)) from None
        return index

    def indices(self, many: Iterable[Mapping[str, object]]) -> NDArray[np.intp]:
        """The indices of many configurations, -1 where :meth:`index` would raise."""
        parameters = list(many)
        found, lowest = np.zeros((2, len(parameters)), dtype=np.intp)
        for name, positions in self._positions.items():
            place_of = positions.get
            try:
                # None is no choice, so that what lacks the name has none.
                own = [place_of(params.get(name), -1) for params in parameters]  # type: ignore[call-overload]
            except TypeError:  # a value that cannot be looked up
                own = [self._place(name, params.get(name)) for params in parameters]
            places = np.array(own, dtype=np.intp)
            found = found * len(positions) + places
            lowest = np.minimum(lowest, places)
        return np.where(lowest < 0, -1, found)

    def _place(self, name: str, value: object) -> int:
        """Where a choice stands among the others; -1 for a value that is none."""
        try:
            return self._positions[name][value]  # type: ignore[index]
        except (KeyError, TypeError):
            return -1

    def _misfit(self, params: Mapping[str, object]) -> str:
        """What is wrong with parameters that are no configuration."""
        missing = [name for name in self._choices if name not in params]
        if missing:
            return (
                f"params must hold every name of the space, {', '.join(self._choices)}; "
                f"{missing[0]!r} is missing"
            )
        wrong = next(name for name, values in self._choices.items() if params[name] not in values)
        shown = ", ".join(map(str, self._choices[wrong]))
        return f"params[{wrong!r}] must be one of {shown}; got {params[wrong]!r}"

    def matching(self, params: Mapping[str, object]) -> NDArray[np.intp]:
        """Indices of the configurations that agree with ``params``, ascending.

        Names and values that are not of this space do not count.
        """
        places = [self._place(name, params.get(name)) for name in self._choices]
        position = tuple(slice(None) if place < 0 else place for place in places)
        sizes = [len(values) for values in self._choices.values()]
        indices: NDArray[np.intp] = np.arange(self._size).reshape(sizes)[position].ravel()
        return indices

    def precision(self, index: int) -> Precision:
        """The formats of one configuration.

        Raises:
            ValueError: The space does not tune ``format_a`` and ``format_b``.
            IndexError: ``index`` is not between 0 and ``len(self) - 1``.
        """
        missing = [name for name in FORMAT_NAMES if name not in self._choices]
        if missing:
            raise ValueError(
                f"the space must tune {' and '.join(FORMAT_NAMES)} to give a precision; "
                f"it tunes {', '.join(self._choices)}"
            )
        params = self.params(index)
        return Precision.parse(str(params["format_a"]), str(params["format_b"]))

    def recipe(self, index: int) -> Recipe:
        """The format of every role in one configuration.

        Raises:
            ValueError: The space tunes other names than
                :func:`~optuna_peppp.configurations.hardware.recipe_of` reads, or a choice is no
                format.
            IndexError: ``index`` is not between 0 and ``len(self) - 1``.
        """
        if not names_formats(self.names):
            raise ValueError(
                f"the space must tune {WAYS}, to give a recipe; it tunes {', '.join(self.names)}"
            )
        return recipe_of(self.params(index))

    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distribution of every name."""
        from optuna.distributions import CategoricalDistribution

        return {name: CategoricalDistribution(values) for name, values in self._choices.items()}

    def suggest(self, trial: BaseTrial) -> dict[str, Value]:
        """Asks ``trial`` for every name of the space, for use inside an objective."""
        # optuna's annotation allows None among the choices; ours never hold it.
        return {
            name: cast(Value, trial.suggest_categorical(name, values))
            for name, values in self._choices.items()
        }


def _shortened(values: tuple[Value, ...]) -> str:
    """The values as text, the first few of many."""
    return repr(values) if len(values) <= _SHOWN else f"{repr(values[:_SHOWN])[:-1]}, ...)"
