"""What configurations cost besides their error: memory, or what else is known before any training.

Wherever the sampler, predictions and figures take ``memory``, they take a :class:`Cost` as well:
seconds an answer takes, joules, parameters, a price. Its name and unit stand in figures, reports,
messages and caps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.sizes import format_size, parse_size


@dataclass(frozen=True, slots=True, eq=False)
class Cost:
    """The cost of every configuration of a space, by its name and in its unit.

    Args:
        values: Shape (d,), positive; in the order of the space's configurations.
        name: What it is called, such as ``"latency"``.
        unit: What ``values`` and caps given as numbers are in. Units of bytes (``"B"``), seconds
            (``"s"``, ``"ms"``), joules (``"J"``), watt hours (``"Wh"``), ``"FLOP"`` and counts
            (``""``) are printed with the prefix that fits, and read with any; any other stands
            for itself.
        most: Shape (d,), what every configuration may come to, where a training may need more than
            ``values`` tell, as precision assignments that promote do; caps of measurements heed it.
            None where they tell all.

    Raises:
        ValueError: The name is no text, or blank, or the unit is no text.

    >>> latency = Cost([0.0021, 0.0009], "latency", "s")
    >>> latency.format(0.0021), latency.parse("1.5ms")
    ('2.1 ms', 0.0015)
    """

    values: ArrayLike
    name: str = "memory"
    unit: str = "B"
    most: ArrayLike | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name.strip()):
            raise ValueError(f"name must be a text, such as 'latency'; got {self.name!r}")
        if not isinstance(self.unit, str):
            raise ValueError(f"unit must be a text, such as 'ms', or ''; got {self.unit!r}")

    @classmethod
    def of(cls, memory: ArrayLike | Cost, space: ConfigurationSpace) -> Self:
        """The cost of every configuration of a space, its values checked.

        Args:
            memory: A cost, or bytes of memory: shape (d,).
            space: The d configurations.

        Raises:
            ValueError: The shape is wrong, or an entry is not a positive number.
        """
        cost = memory if isinstance(memory, cls) else cls(memory)
        try:
            array = np.array(cost.values, dtype=np.float64)
        except (TypeError, ValueError) as problem:
            raise ValueError(
                "memory must be numbers, the bytes of every configuration, as memory_vector(space, "
                f"model, input_shape) returns; got {type(cost.values).__name__}"
            ) from problem
        if array.shape != (len(space),):
            raise ValueError(
                f"memory must have shape ({len(space)},), one entry per configuration of "
                f"meta.space; got {array.shape}"
            )
        bad = np.flatnonzero(~(np.isfinite(array) & (array > 0)))
        if bad.size:
            index = int(bad[0])
            raise ValueError(
                f"memory must be positive and finite; memory[{index}], the {cost.name} of "
                f"{space.params(index)}, is {array[index]}"
            )
        array.flags.writeable = False
        most = array if cost.most is None else np.array(cost.most, dtype=np.float64)
        if most.shape != array.shape or not (most >= array).all():
            raise ValueError(
                f"most must have shape ({len(space)},) and nowhere be less than the {cost.name} "
                f"itself; got {cost.most!r}"
            )
        return replace(cost, values=array, most=most)

    @property
    def array(self) -> NDArray[np.float64]:
        """The values as an array of shape (d,)."""
        return np.asarray(self.values, dtype=np.float64)

    @property
    def upper_bound(self) -> NDArray[np.float64]:
        """What every configuration may come to, an array of shape (d,)."""
        return self.array if self.most is None else np.asarray(self.most, dtype=np.float64)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The values, wherever numpy is given the cost."""
        return np.array(self.values, dtype=dtype, copy=copy)

    def format(self, value: float) -> str:
        """A cost as people write it, to four digits."""
        return format_size(value, self.unit)

    def exactly(self, value: float) -> str:
        """A cost to ten digits in its own unit, and as people write it."""
        unit = "bytes" if self.unit == "B" else self.unit
        return f"{f'{value:.10g} {unit}'.rstrip()} ({self.format(value)})"

    def parse(self, cap: str | float | None) -> float:
        """A cap in the unit of ``values``; infinity for None.

        Raises:
            ValueError: As :func:`~optuna_peppp.sizes.parse_size`.
        """
        return np.inf if cap is None else parse_size(cap, self.unit)
