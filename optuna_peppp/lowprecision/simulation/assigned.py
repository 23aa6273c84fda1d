"""The tensors of one training that have the lower format, and those that overflow and lose it.

Which these are is held in tensors, so that the steps of all assignments are one compiled graph.
A pass counts, of every weight and activation, the numbers that the lower format cannot hold; when
the next pass begins, those with too many are promoted to the higher format for good (Lee et al.,
TMLR 2023). The program waits for none of it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from optuna_peppp.configurations.assignments import Rule
from optuna_peppp.configurations.formats import Format, overflow_of
from optuna_peppp.configurations.roles import Role
from optuna_peppp.configurations.sites import INPUT, Call, Groups
from optuna_peppp.lowprecision.rounding.rounder import Rounder
from optuna_peppp.lowprecision.simulation.straight_through import is_rounded, leaves_of

_STATE: Final = ("low_activations", "low_weights", "counts")
"""What a training changes: part of a state, so that one goes on where it stopped."""


class Assigned(nn.Module):
    """An assignment as it stands: its buffers change as tensors are promoted.

    Args:
        rule: That it follows.
        groups: Of the network.
        names: Of the parameters that are rounded, in their order.
        formats: Of weights and of activations that are demoted.
        device: Of the training.
        exempt: Modules that the rule does not decide on.

    Attributes:
        ends: Whether input and logits are rounded as activations are.
        low_activations: Boolean, shape (sites,), true where an activation is demoted.
        low_gradients: The same of its gradient.
        low_weights: Boolean, shape (parameters,).
        counts: float64, shape (parameters + sites,): numbers of the last pass that overflow.
        limits: float64, as above: how many promote, infinity where nothing does.
    """

    low_activations: Tensor
    low_gradients: Tensor
    low_weights: Tensor
    counts: Tensor
    limits: Tensor
    overflow: Tensor

    def __init__(
        self,
        rule: Rule,
        groups: Groups,
        names: Sequence[str],
        formats: tuple[Format | None, Format | None],
        device: torch.device,
        exempt: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.ends = rule.ends
        self._numbers = dict(groups.calls)
        self._made = {site.call: number for number, site in enumerate(groups.sites)}
        self._found: dict[int, Tensor] = {}
        self._counts_overflow = rule.promotion is not None
        self._names = tuple(names)
        assignment = rule.of(groups)
        sizes = [groups.parameters[n].numbers if n in groups.parameters else 0 for n in names]
        ends = frozenset() if rule.ends else {INPUT, *groups.logits}
        self._total = sum(groups.sizes)
        # Of what it decides on, the others are none.
        ruled = [name.rpartition(".")[0] not in exempt for name in names]
        self._ruled = [
            *(size * is_ruled for size, is_ruled in zip(sizes, ruled, strict=True)),
            *(x.numbers * (x.call not in ends and x.call[0] not in exempt) for x in groups.sites),
        ]
        sizes += [site.numbers for site in groups.sites]
        limit = math.inf if rule.promotion is None else rule.promotion
        of_weights, of_activations = map(overflow_of, formats)
        overflow = [of_weights] * len(names) + [of_activations] * len(groups.sites)
        sites = range(len(groups.sites))
        low_weights = [name in assignment.weights for name in names]
        low_activations = [number in assignment.activations for number in sites]
        self._demoted = low_weights + low_activations
        for name, values in (
            ("low_activations", low_activations),
            ("low_gradients", [number in assignment.gradients for number in sites]),
            ("low_weights", low_weights),
            ("counts", [0.0] * len(sizes)),
            ("limits", [limit * size if size else math.inf for size in sizes]),
            ("overflow", overflow),
        ):
            kind = {"counts": torch.float64, "limits": torch.float64, "overflow": torch.float32}
            tensor = torch.tensor(values, dtype=kind.get(name, torch.bool), device=device)
            self.register_buffer(name, tensor, persistent=name in _STATE)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        if not any(key.startswith(prefix) for key in state_dict):  # of before the first pass
            for name, value in self._start().items():
                state_dict[prefix + name] = value
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _start(self) -> dict[str, Tensor]:
        """The state of a training that begins."""
        low = torch.tensor(self._demoted)
        of_weights, of_activations = low.tensor_split([len(self._names)])
        counts = torch.zeros_like(self.counts)
        return {"low_weights": of_weights, "low_activations": of_activations, "counts": counts}

    def begin(self, *, counting: bool) -> None:
        """Begins a pass: promotes what overflowed in the last one that counted."""
        self._found = {}
        # In a compiled step counting costs next to nothing, and all limits are one graph.
        wanted = torch.compiler.is_compiling() or self._counts_overflow
        self._counting = counting and wanted
        with torch.no_grad():
            low = ~(self.counts >= self.limits)
            self.low_weights.logical_and_(low[: len(self._names)])
            self.low_activations.logical_and_(low[len(self._names) :])
            self.counts.zero_()

    def end(self) -> None:
        """Keeps what the pass counted."""
        if self._found:
            zero = self.counts.new_zeros(())
            counts = [self._found.get(place, zero) for place in range(len(self.limits))]
            self.counts.copy_(torch.stack(counts))
            self._found = {}

    def of(self, rounder: Rounder, call: Call, values: Any) -> Rounder:
        """What rounds the tensors that a call made; those that it made itself are counted.

        Args:
            rounder: Of the pass.
            call: Of a module; one that the groups do not know keeps the higher format.
            values: What it returned.
        """
        number = self._numbers.get(call)
        if number is None:
            assert rounder.high is not None
            return rounder.high
        if self._counting and call in self._made:
            self._count(len(self._names) + number, leaves_of(values))
        low: dict[Role, Tensor] = {
            "activations": self.low_activations[number],
            "activation_gradients": self.low_gradients[number],
        }
        return rounder.between(low)

    def weights(self, weights: Sequence[Tensor]) -> Tensor:
        """Which of the parameters are demoted; they are counted."""
        if self._counting:
            for place, weight in enumerate(weights):
                self._count(place, [weight])
        return self.low_weights

    def promoted(self) -> tuple[str, ...]:
        """Names of the parameters, and of the modules whose outputs, lost the lower format."""
        self.begin(counting=False)
        low = [*self.low_weights.tolist(), *self.low_activations.tolist()]
        names = [*self._names, *(name for name, _ in self._made)]
        lost = zip(names, self._demoted, low, strict=True)
        return tuple(dict.fromkeys(name for name, before, after in lost if before and not after))

    def low_ratio(self) -> float:
        """The share of all numbers, gradients among them, that have the lower format now."""
        self.begin(counting=False)
        low = torch.cat((self.low_weights, self.low_activations, self.low_gradients)).tolist()
        numbers = [*self._ruled, *self._ruled[len(self._names) :]]
        return sum(n for n, is_low in zip(numbers, low, strict=True) if is_low) / self._total

    def _count(self, place: int, values: Sequence[Any]) -> None:
        limit = self.overflow[place]
        counts = [
            # NaN counts, too.
            (~(x.detach().abs() < limit)).sum(dtype=torch.float64)
            for x in values
            if isinstance(x, Tensor) and is_rounded(x)
        ]
        if counts:
            self._found[place] = sum(counts[1:], counts[0])
