"""What tensors are to a training, and modules that have formats of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.formats import Format

Role = Literal[
    "weights",
    "activations",
    "activation_gradients",
    "weight_gradients",
    "momentum",
    "accumulators",
    "input",
    "logits",
]
"""What a tensor is to a training."""

Kept = Literal["saved"]
"""What is kept of an activation, for the backward pass, where that is not the activation itself."""

ROLES: Final[tuple[Role, ...]] = get_args(Role)
KEPT: Final[tuple[Kept, ...]] = get_args(Kept)

PASSES: Final[tuple[Role | Kept, ...]] = (
    *("weights", "activations", "activation_gradients"),
    *("saved", "input", "logits"),
)
"""Roles of the tensors that a forward and a backward pass read."""

RULED: Final[tuple[Role | Kept, ...]] = ("weights", "activations", "activation_gradients")
"""Roles that a recipe's rule decides on, tensor by tensor."""

Formats = Mapping[Role | Kept, Format]
"""Format by role."""

_EXEMPT: Final = ("weights", "activations", "activation_gradients", "momentum", "saved")
"""Roles that belong to a module."""

Kind = Literal["first", "last", "penultimate", "norm", "embedding"]
"""Modules that are told apart: the first and the last whose weights are matrices; the one before
the last with all that follow it, which return what the last one reads; and by what they are."""

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Exemption:
    """Formats that some modules have in place of the recipe's.

    Attributes:
        modules: ``"first"``, ``"last"``, ``"penultimate"``, ``"norm"``, ``"embedding"``, or the
            name of a module, which stands for all modules within it, too.
        formats: The format of every role that has another one: of the modules' weights, of what the
            optimizer remembers of these, of their outputs and the gradients of these, and of what
            is kept of the outputs.

    Raises:
        ValueError: A role does not belong to a module.
    """

    modules: str
    formats: Formats

    def __post_init__(self) -> None:
        for role in self.formats:
            check_choice("role of an exemption", role, _EXEMPT)

    def __hash__(self) -> int:
        return hash((self.modules, frozenset(self.formats.items())))

    def covers(self, name: str, kinds: frozenset[Kind]) -> bool:
        """Whether it speaks of the module of this name, which is of these kinds."""
        if self.modules in KINDS:
            return self.modules in kinds
        return name == self.modules or name.startswith(f"{self.modules}.")
