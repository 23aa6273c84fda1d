"""Which calls of modules compute the logits: what follows them are functions only.

The last module of a network need not return the network's output: its logits may be put into a
container, reshaped, or given to a softmax, and there may be several. A call computes logits when
its result reaches the output, and no other call of a module reads it. To find out, the network
runs once, without data, on a copy, and every operation hands on from which calls its inputs came.

Operators compute logits in the same way where they are sites; of these, products read as modules
do. Those that no parameter, no input of numbers and no module had a part in are constants.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Final

from torch import Tensor, nn

from optuna_peppp.configurations.sites import Call
from optuna_peppp.lowprecision.rounding.operators import (
    PRODUCTS,
    Operators,
    is_opaque,
    name_of,
    opaque_modules,
)
from optuna_peppp.lowprecision.simulation.part import Roles
from optuna_peppp.lowprecision.simulation.rehearsal import Watcher, rehearse
from optuna_peppp.lowprecision.simulation.straight_through import (
    has_numbers,
    is_rounded,
    leaves_of,
)

_GIVEN: Final[Call] = ("", -1)
"""Stands for the parameters and the inputs of a network."""


def roles_of(
    module: nn.Module, inputs: Any, operators: bool = False, *, training: bool | None = None
) -> Roles:
    """Which calls of submodules compute the logits.

    Args:
        module: A network; left as it is.
        inputs: Its positional and its named inputs.
        operators: Whether operators are sites, too.
        training: Whether the network is in training mode; None leaves that as it is.

    Returns:
        The calls; none where the network runs neither without data nor on a copy.
    """
    flow = rehearse(module, inputs, _OfOperators if operators else _Flow, training=training)
    if flow is None:
        return Roles()
    logits = flow.sources(flow.output) - flow.read - {_GIVEN}
    return Roles(frozenset(logits), frozenset(flow.constants))


class _Flow(Watcher):  # type: ignore[no-untyped-call]
    """Keeps of every storage the calls that what it holds was computed from.

    Attributes:
        read: Calls whose results were read by other calls.
        constants: Operators that computed from nothing that was given.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.read: set[Call] = set()
        self.constants: set[Call] = set()
        self._sources: dict[int, set[Call]] = {}
        self._written: dict[int, int] = {}
        self._last: Any = None

    def operation(self, func: Any, read: Any, written: Any) -> None:
        sources = self.sources(read)
        if sources:
            for key in self.storages(written):
                self._sources.setdefault(key, set()).update(sources)

    def leave(self, call: Call, submodule: nn.Module, output: Any) -> None:
        self.returned(call, output, next(submodule.children(), None) is not None)

    def returned(self, call: Call, output: Any, hands_on: bool) -> None:
        """The output of a call comes from it, and from nothing else.

        Args:
            call: Of a module or an operator.
            output: Of the call.
            hands_on: Whether it may be what another site returned.
        """
        if output is self._last and hands_on:
            return
        self._last = output
        for key in self.storages(output):
            sources = self._sources.get(key, set())
            if self._written.get(key) == self.writes(key):
                # A view of what was given: it is handed on, and not read.
                self._sources[key] = sources | {call}
            else:
                self.read |= sources - {call}
                self._sources[key] = {call}
            self._written[key] = self.writes(key)

    def sources(self, values: Any) -> set[Call]:
        """The calls that tensors were computed from."""
        return set().union(*(self._sources.get(key, set()) for key in self.storages(values)))


class _OfOperators(_Flow):  # type: ignore[no-untyped-call]
    """The same where operators are sites, too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self._operators = Operators(self._operate, opaque_modules(network))
        self._parameters = list(network.parameters())

    def within(self) -> AbstractContextManager[object]:
        return self._operators

    def enter(self, name: str, submodule: nn.Module, inputs: Any) -> None:
        if name:
            self._operators.enter(name)
            return
        # The network itself: what is computed from its inputs is no constant.
        given = leaves_of((inputs, self._parameters))
        tensors = [x for x in given if isinstance(x, Tensor) and is_rounded(x)]
        for key in self.storages(tensors):
            self._sources[key] = {_GIVEN}

    def leave(self, call: Call, submodule: nn.Module, output: Any) -> None:
        self._operators.pause()
        self.returned(call, output, not is_opaque(submodule))
        self._operators.leave(call[0])

    def _operate(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls an operator: what it returns comes from it, too."""
        result = function(*args, **kwargs)
        if not has_numbers(result):
            return result
        call = self.next_call("")
        if name_of(function) in PRODUCTS:
            constant = not self.sources((args, kwargs))
            self.returned(call, result, hands_on=False)
        else:
            constant = not self.sources(result)
            for key in self.storages(result):
                self._sources.setdefault(key, set()).add(call)
            self._last = result
        if constant:
            self.constants.add(call)
            for key in self.storages(result):
                self._sources[key] = set()
        return result
