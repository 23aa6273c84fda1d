"""Which calls of modules compute the logits: what follows them are functions only.

The last module of a network need not return the network's output: its logits may be put into a
container, reshaped, or given to a softmax, and there may be several. A call computes logits when
its result reaches the output, and no other call of a module reads it. To find out, the network
runs once, without data, on a copy, and every operation hands on from which calls its inputs came.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from optuna_peppp.configurations.sites import Call
from optuna_peppp.lowprecision.simulation.rehearsal import Watcher, rehearse


def calls_of_logits(module: nn.Module, inputs: Any) -> frozenset[Call]:
    """The calls of submodules that compute the logits.

    Args:
        module: A network; left as it is.
        inputs: Its positional and its named inputs.

    Returns:
        The calls; none where the network runs neither without data nor on a copy.
    """
    flow = rehearse(module, inputs, lambda copied: _Flow())
    return frozenset() if flow is None else frozenset(flow.sources(flow.output) - flow.read)


class _Flow(Watcher):
    """Keeps of every storage the calls that what it holds was computed from.

    Attributes:
        read: Calls whose results were read by other calls.
    """

    def __init__(self) -> None:
        super().__init__()
        self.read: set[Call] = set()
        self._sources: dict[int, set[Call]] = {}
        self._written: dict[int, int] = {}
        self._last: Any = None

    def operation(self, func: Any, read: Any, written: Any) -> None:
        sources = self.sources(read)
        if sources:
            for key in self.storages(written):
                self._sources.setdefault(key, set()).update(sources)

    def leave(self, call: Call, submodule: nn.Module, output: Any) -> None:
        # The output of this call comes from it, and from nothing else.
        container = next(submodule.children(), None) is not None
        if output is self._last and container:
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
