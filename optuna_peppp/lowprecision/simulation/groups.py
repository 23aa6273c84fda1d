"""Finding the sites and groups of a network: :mod:`optuna_peppp.configurations.sites`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.names import SITES, Sites
from optuna_peppp.configurations.sites import INPUT, Call, Groups, Parameter, Site
from optuna_peppp.lowprecision.compatibility import storage_key
from optuna_peppp.lowprecision.rounding.operators import Operators, opaque_modules
from optuna_peppp.lowprecision.simulation.dataflow import roles_of
from optuna_peppp.lowprecision.simulation.rehearsal import Watcher, rehearse
from optuna_peppp.lowprecision.simulation.straight_through import (
    has_numbers,
    is_rounded,
    leaves_of,
)

_PRODUCTS: Final = frozenset(
    {
        *("convolution", "mm", "addmm", "mv", "addmv", "bmm", "baddbmm", "_trilinear"),
        *("_scaled_dot_product_attention_math", "_scaled_dot_product_flash_attention"),
        *("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_cudnn_attention"),
        *("_scaled_dot_product_efficient_attention", "_scaled_dot_product_fused_attention"),
        *("mkldnn_rnn_layer", "_cudnn_rnn", "_thnn_fused_lstm_cell", "_thnn_fused_gru_cell"),
    }
)
"""Operations of PyTorch that are products, or hold some."""

_COPY: Final = "clone"
"""The operation that copies what cannot be viewed otherwise: the numbers stay what they were."""


def groups(model: nn.Module, inputs: Any, sites: Sites = "modules") -> Groups:
    """The sites and groups of a network in training, without computing anything.

    Args:
        model: Any module; it is left unchanged.
        inputs: One batch, of which only shapes count: a tuple is taken as the network's arguments
            and a mapping as its named arguments, all else as its one argument.
        sites: Whether only ``"modules"`` make sites, or ``"operators"`` as well: residual sums,
            concatenations, whatever a recipe with these sites rounds.

    Raises:
        ValueError: ``sites`` is unknown.
        Exception: Whatever a copy of the network raises on these inputs, with a note.
    """
    check_choice("sites", sites, SITES)
    operators = sites == "operators"
    if isinstance(inputs, Mapping):
        return groups_of(model, (), dict(inputs), operators)
    return groups_of(model, inputs if type(inputs) is tuple else (inputs,), {}, operators)


def groups_of(
    model: nn.Module,
    inputs: tuple[Any, ...],
    named_inputs: dict[str, Any],
    operators: bool = False,
) -> Groups:
    """As :func:`groups`, for a call with these arguments."""
    roles = roles_of(model, (inputs, named_inputs), operators, training=True)
    kind = partial(_OfOperators, constants=roles.constants) if operators else _Recorder
    try:
        recorder = rehearse(model, (inputs, named_inputs), kind, training=True, raises=True)
    except Exception as problem:
        problem.add_note(f"This is what {type(model).__name__} raised when its groups were sought.")
        raise
    assert recorder is not None
    return replace(recorder.groups(), logits=roles.logits)


class _Frame:
    """A call that runs.

    Attributes:
        reads: The sites that it was given, the first of them first.
        parameters: The storages that it has read and no call has made.
        is_product: Whether it has computed a product itself.
        is_first: Whether it has called no other module yet.
    """

    def __init__(self, reads: list[int]) -> None:
        self.reads = reads
        self.parameters: set[int] = set()
        self.is_product = False
        self.is_first = True


class _Recorder(Watcher):  # type: ignore[no-untyped-call]
    """Records sites as calls make them, and which call reads a parameter first."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = network
        self._sites: list[Site] = []
        self.calls: dict[Call, int] = {}
        # Of a storage that holds a site: its number, and how often it had been written to.
        self._held: dict[int, tuple[int, int]] = {}
        self._frames: list[_Frame] = []
        self._group = 0
        self._begins = False
        # Of a storage that no call has made: the group of its first reader, and all readers.
        self._read_in: dict[int, int] = {}
        self._readers: dict[int, set[int]] = {}
        # Of a storage that is saved for the backward pass: its numbers, and the group then.
        self._saved: dict[int, tuple[int, int]] = {}

    def within(self) -> AbstractContextManager[object]:
        stack = ExitStack()
        stack.enter_context(torch.enable_grad())
        stack.enter_context(saved_tensors_hooks(self._save, lambda x: x))
        return stack

    def _save(self, x: Tensor) -> Tensor:
        if is_rounded(x):
            (key,) = self.storages(x)
            numbers = x.untyped_storage().nbytes() // x.element_size()
            self._saved.setdefault(key, (numbers, self._group + self._begins))
        return x

    def groups(self) -> Groups:
        """What was recorded."""
        parameters = {}
        for name, parameter in self._network.named_parameters():
            key = storage_key(parameter)
            if key in self._read_in:
                readers = frozenset(self._readers.get(key, ()))
                parameters[name] = Parameter(parameter.numel(), self._read_in[key], readers)
        kept = [0] * (self._group + 1)
        for own in parameters.values():
            kept[own.group] += own.numbers
        theirs = {storage_key(x) for x in (*self._network.parameters(), *self._network.buffers())}
        for key, (numbers, group) in self._saved.items():
            if key not in theirs:
                held = self._held.get(key)
                # A product that no call has returned begins no group.
                last = min(group, self._group)
                kept[last if held is None else self._sites[held[0]].group] += numbers
        return Groups(tuple(self._sites), self.calls, parameters, kept=tuple(kept))

    def operation(self, func: Any, read: Any, written: Any) -> None:
        frame = self._frames[-1]
        name = func._schema.name.partition("::")[2]
        keys = self.storages(read)
        if name in _PRODUCTS:
            frame.is_product = self._begins = True
        elif name == _COPY and (site := self._unchanged(keys)) is not None:
            self._held.update((key, (site, self.writes(key))) for key in self.storages(written))
        for key in keys:
            if key not in self._held:
                frame.parameters.add(key)
                self._read_in.setdefault(key, self._group_of(frame))

    def enter(self, name: str, submodule: nn.Module, inputs: Any) -> None:
        if not self._frames:
            self._add(INPUT, inputs, _Frame([]))
        else:
            self._frames[-1].is_first = False
        keys = [key for key in self.storages(inputs) if key in self._held]
        self._frames.append(_Frame([self._held[key][0] for key in keys]))

    def leave(self, call: Call, submodule: nn.Module, output: Any) -> None:
        self._returned(call, output, self._frames.pop())

    def _returned(self, call: Call, output: Any, frame: _Frame) -> None:
        site = self._unchanged(self.storages(output))
        if site is not None:  # a view of what another call made
            self.calls[call] = site
            return
        if self._begins:
            self._group, self._begins = self._group + 1, False
        self._add(call, output, frame)
        for key in frame.parameters:
            self._readers.setdefault(key, set()).add(self.calls[call])

    def _unchanged(self, keys: list[int]) -> int | None:
        """The first site that storages hold, where all hold one as it was made; else None."""
        held = [self._held.get(key, (0, -1)) for key in keys]
        same = held and all(n == self.writes(k) for k, (_, n) in zip(keys, held, strict=True))
        return held[0][0] if same else None

    def _group_of(self, frame: _Frame) -> int:
        """The group of what a call reads itself, before it calls others; else the current one."""
        if frame.is_first and frame.reads:
            return self._sites[frame.reads[0]].group
        return self._group

    def _add(self, call: Call, tensors: Any, frame: _Frame) -> None:
        number = self.calls[call] = len(self._sites)
        floats = [x for x in leaves_of(tensors) if isinstance(x, Tensor) and is_rounded(x)]
        numbers = sum(x.numel() for x in floats)
        reads = frozenset(frame.reads)
        self._sites.append(Site(call, numbers, self._group, frame.is_product, reads))
        for key in self.storages(floats):
            self._held[key] = number, self.writes(key)


class _OfOperators(_Recorder):  # type: ignore[no-untyped-call]
    """The same where operators are sites, too.

    Args:
        network: The copy that runs.
        constants: Operators that are none, as they compute from nothing that is given.
    """

    def __init__(self, network: nn.Module, constants: frozenset[Call]) -> None:
        super().__init__(network)
        self._constants = constants
        self._operators = Operators(self._operate, opaque_modules(network))

    def within(self) -> AbstractContextManager[object]:
        stack = ExitStack()
        stack.enter_context(super().within())
        stack.enter_context(self._operators)
        return stack

    def enter(self, name: str, submodule: nn.Module, inputs: Any) -> None:
        if name:
            self._operators.enter(name)
        super().enter(name, submodule, inputs)

    def leave(self, call: Call, submodule: nn.Module, output: Any) -> None:
        self._operators.pause()
        super().leave(call, submodule, output)
        self._operators.leave(call[0])

    def _operate(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls an operator as a module is called."""
        super().enter("", self._network, (args, kwargs))
        result = function(*args, **kwargs)
        frame = self._frames.pop()
        if has_numbers(result):
            call = self.next_call("")
            if call not in self._constants:
                self._returned(call, result, frame)
        return result
