"""Which format each tensor of a training has, and how it is rounded to it.

A recipe is made by name (``Recipe.named("mxfp8")``), from what hardware offers
(``Recipe.hardware``), or from the paper's two formats (``Recipe.paper``). Spaces, trainings and
memory know formats through it alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, Self, get_args

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.assignments import Rule
from optuna_peppp.configurations.blocks import NVFP4, BlockFormat, MinMax
from optuna_peppp.configurations.formats import FloatFormat, Format, MachineFloat
from optuna_peppp.configurations.loss_scale import DynamicLossScale, LossScale, check_loss_scale
from optuna_peppp.configurations.names import ROUNDINGS, SITES, Rounding, Sites
from optuna_peppp.configurations.notation import parse_format
from optuna_peppp.configurations.roles import KEPT, ROLES, Exemption, Formats, Kept, Kind, Role

_SMALL: Final = 4096
"""Numbers of a tensor below which its optimizer state stays float32, as practice has it."""

_FLOAT32: Final = MachineFloat("float32")
_BFLOAT16: Final = MachineFloat("bfloat16")


@dataclass(frozen=True, slots=True, eq=False)
class Recipe(Mapping[Role | Kept, Format]):
    """The format of every role that is rounded; a role that is left out is float32.

    Batch-norm statistics and the loss stay float32 in any case.

    Attributes:
        formats: Format by role.
        stochastic: Roles that are rounded stochastically, the others to nearest.
        loss_scale: A factor on the loss, taken off the weight gradients again.
        exemptions: What modules have other formats; of two that cover a module, the first counts.
        small: Tensors of fewer numbers keep their optimizer state (``momentum``) in float32.
        transient_gradients: Whether the update runs as soon as a weight gradient arrives, so that
            memory holds one tensor's at a time.
        scaled_gradients: Whether weight gradients are rounded while they carry the loss scale.
        rule: Which weights, activations and gradients of activations have a higher format than
            that of their role; None for none.
        sites: Whose outputs are activations and rounded: those of ``"modules"``, or, with
            ``"operators"``, also what functions compute between them: residual sums, attention
            scores and products, ``F.relu``, concatenations. ``dataclasses.replace(recipe,
            sites="operators")`` makes this choice for any recipe.

    Raises:
        ValueError: A role or ``sites`` is none, the loss scale is no positive number, or the rule
            promotes tensors whose format cannot overflow.

    >>> recipe = Recipe.named("mxfp8")
    >>> str(recipe["activations"]), str(recipe["accumulators"])
    ('mxfp8-e4m3', 'float32')
    """

    formats: Formats
    stochastic: frozenset[Role | Kept] = frozenset()
    loss_scale: LossScale = 1.0
    exemptions: tuple[Exemption, ...] = ()
    small: int = 0
    transient_gradients: bool = False
    scaled_gradients: bool = False
    rule: Rule | None = None
    sites: Sites = "modules"

    def __post_init__(self) -> None:
        for role in (*self.formats, *self.stochastic):
            check_choice("role", role, (*ROLES, *KEPT))
        check_loss_scale(self.loss_scale)
        if self.rule is not None and self.rule.promotion is not None:
            for role in ("weights", "activations"):
                fmt = self.formats.get(role)
                if not isinstance(fmt, FloatFormat | MachineFloat | None):
                    raise ValueError(
                        f"promotion must be None with {role} in {fmt}, whose numbers share a scale "
                        f"and do not overflow; got {self.rule.promotion!r}"
                    )
        check_choice("sites", self.sites, SITES)
        # In one order, and out of the caller's hands.
        formats = {role: self.formats[role] for role in (*ROLES, *KEPT) if role in self.formats}
        object.__setattr__(self, "formats", formats)

    @classmethod
    def paper(
        cls, format_a: Format | str, format_b: Format | str, rounding: Rounding = "nearest"
    ) -> Self:
        """The paper's scheme (Section 3.1): Format A for the passes, Format B for the optimizer.

        Args:
            format_a: Of weights, activations and their gradients.
            format_b: Of weight gradients, momentum and accumulators, and of input and logits.
            rounding: How every role is rounded.

        Raises:
            ValueError: A text is no format, or ``rounding`` is unknown.
        """
        check_choice("rounding", rounding, ROUNDINGS)
        of_a, of_b = _read(format_a), _read(format_b)
        formats: Formats = {role: of_a if role in ROLES[:3] else of_b for role in ROLES}
        stochastic = frozenset[Role | Kept](ROLES if rounding == "stochastic" else ())
        return cls(formats, stochastic, loss_scale=1000.0)

    @classmethod
    def hardware(
        cls,
        activations: Format | str = "bfloat16",
        gradients: Format | str | None = None,
        weights: Format | str | None = None,
        states: Format | str = "float32",
        master: Format | str = "float32",
    ) -> Self:
        """Mixed precision as hardware and optimizers offer it.

        Products read weights, activations and gradients in their formats; outside of them, for
        input, logits, weight gradients, normalizations and embeddings, there is bfloat16.
        Gradients in NVFP4 and master weights are rounded stochastically. Of states that have
        scales, those of small tensors and of embeddings stay float32.

        Args:
            activations: Of activations. Those of runs from their smallest to their largest number
                (``int4@256/minmax``) are kept for the backward pass only, rounded stochastically,
                and everything is computed in bfloat16.
            gradients: Of the gradients of activations; by default what products read.
            weights: Of weights, as products read them; by default what products read.
            states: Of the optimizer's state.
            master: Of the weights that the optimizer updates.

        Raises:
            ValueError: A text is no format.
        """
        of_activations, of_states = _read(activations), _read(states)
        kept = isinstance(of_activations, MinMax)
        computed = _BFLOAT16 if kept else of_activations
        high = _FLOAT32 if computed == _FLOAT32 else _BFLOAT16
        of_gradients = computed if gradients is None else _read(gradients)
        formats: dict[Role | Kept, Format] = {
            "weights": computed if weights is None else _read(weights),
            "activations": computed,
            "activation_gradients": of_gradients,
            "weight_gradients": high,
            "momentum": of_states,
            "accumulators": _read(master),
            "input": high,
            "logits": high,
        }
        stochastic: set[Role | Kept] = {"accumulators"}
        if kept:
            formats["saved"] = of_activations
            stochastic.add("saved")
        if isinstance(of_gradients, NVFP4):
            stochastic.add("activation_gradients")
        scaled = isinstance(of_states, BlockFormat)
        embedding = _high("embedding", high)
        if scaled:
            embedding = Exemption("embedding", {**embedding.formats, "momentum": _FLOAT32})
        return cls(
            formats,
            frozenset(stochastic),
            exemptions=(_high("norm", high), embedding),
            small=_SMALL if scaled else 0,
        )

    @classmethod
    def assigned(
        cls,
        low: Format | str,
        high: Format | str,
        format_b: Format | str | None = None,
        low_gradient: Format | str | None = None,
        *,
        demotion: float = 1.0,
        order: str = "decreasing",
        promotion: float | None = None,
        rounding: Rounding = "nearest",
        states: Format | str = "float32",
        master: Format | str = "float32",
    ) -> Self:
        """The paper's scheme, or hardware's, with two formats in the place of one.

        Args:
            low: Of demoted weights and activations.
            high: Of those that are not demoted, and of their gradients.
            format_b: Format B, as for :meth:`paper`; None for :meth:`hardware` in its place.
            low_gradient: Of the demoted gradients of activations; by default ``low``.
            demotion: As for :class:`~optuna_peppp.configurations.assignments.Rule`.
            order: As above.
            promotion: As above.
            rounding: How every role is rounded, where there is a Format B.
            states: As for :meth:`hardware`, where there is none.
            master: As above.

        Raises:
            ValueError: A text is no format, or an argument is none of its choices.
        """
        if format_b is None:
            recipe = cls.hardware(low, states=states, master=master)
        else:
            recipe = cls.paper(low, format_b, rounding)
        formats = dict(recipe.formats)
        if low_gradient is not None:
            formats["activation_gradients"] = _read(low_gradient)
        rule = Rule(_read(high), demotion, order, promotion)
        return replace(recipe, formats=formats, rule=rule)

    @classmethod
    def named(cls, text: str) -> Self:
        """A recipe that is in use: one of :data:`RECIPES`.

        ``bfloat16`` and ``float16``, this one with a dynamic loss scale, are those of
        ``torch.amp``; ``fp8-hybrid`` has E4M3 forward and E5M2 backward, a scale a tensor;
        ``mxfp8`` and ``nvfp4`` have blocks, the latter with first and last layer in bfloat16,
        and what the last one reads.

        Raises:
            ValueError: There is no such recipe; the message names the nearest.
        """
        check_choice("recipe", text, RECIPES)
        if text == "fp8-hybrid":
            return cls.hardware("float8-e4m3@tensor", "float8-e5m2@tensor")
        if text == "float16":
            recipe = cls.hardware("float16")
            formats: Formats = {
                role: recipe["activations"] if fmt == _BFLOAT16 else fmt
                for role, fmt in recipe.items()
            }
            high = tuple(_high(kind, _FLOAT32) for kind in ("norm", "embedding"))
            return replace(recipe, formats=formats, loss_scale=DynamicLossScale(), exemptions=high)
        if text == "nvfp4":
            recipe = cls.hardware("nvfp4")
            ends = tuple(_high(kind, _BFLOAT16) for kind in ("first", "last"))
            # What the last one reads, too; their gradients are read by the product before it.
            read = Exemption("penultimate", {"activations": _BFLOAT16})
            return replace(recipe, exemptions=(*recipe.exemptions, *ends, read))
        return cls.hardware("mxfp8-e4m3" if text == "mxfp8" else text)

    def __getitem__(self, role: Role | Kept) -> Format:
        return self.formats[role]

    def __iter__(self) -> Iterator[Role | Kept]:
        return iter(self.formats)

    def __len__(self) -> int:
        return len(self.formats)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Recipe):
            return self._key() == other._key()
        return dict(self.formats) == other if isinstance(other, Mapping) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        rest = self.small, self.transient_gradients, self.scaled_gradients, self.rule, self.sites
        return tuple(self.formats.items()), self.stochastic, self.loss_scale, self.exemptions, *rest

    def rounds_state(self, numbers: int) -> bool:
        """Whether the optimizer state of a tensor of so many numbers is rounded.

        Small tensors are not, and those that are no whole number of blocks, where ``small`` is set.
        """
        states = self.formats.get("momentum")
        if states is None or numbers < self.small:
            return False
        block = states.block if self.small and isinstance(states, BlockFormat) else None
        return block is None or numbers % block.numbers == 0

    def at(self, name: str, kinds: frozenset[Kind]) -> int | None:
        """Which exemption covers the module of a name, which is of these kinds; None for none."""
        for number, exemption in enumerate(self.exemptions):
            if exemption.covers(name, kinds):
                return number
        return None

    def exempt(self, number: int | None) -> Formats:
        """The formats of modules that an exemption covers, of all others with None."""
        return (
            self.formats if number is None else {**self.formats, **self.exemptions[number].formats}
        )


RecipeName = Literal["bfloat16", "float16", "fp8-hybrid", "mxfp8", "nvfp4"]
"""Recipes that are in use."""

RECIPES: Final[tuple[RecipeName, ...]] = get_args(RecipeName)


def _read(fmt: Format | str) -> Format:
    return parse_format(fmt) if isinstance(fmt, str) else fmt


def _high(modules: str, fmt: Format) -> Exemption:
    """Everything that belongs to some modules in one format, but for what is kept of it."""
    return Exemption(modules, {"weights": fmt, "activations": fmt, "activation_gradients": fmt})
