"""Forward and backward passes of any module in low precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.sites import INPUT
from optuna_peppp.lowprecision.compatibility import backward_pass
from optuna_peppp.lowprecision.rounding.exemptions import exempt_modules, kinds_of_modules
from optuna_peppp.lowprecision.rounding.operators import opaque_modules
from optuna_peppp.lowprecision.rounding.rounder import Rounder
from optuna_peppp.lowprecision.rounding.scheme import Quantizer, as_quantizer
from optuna_peppp.lowprecision.simulation.assigned import Assigned
from optuna_peppp.lowprecision.simulation.checkpoints import Function, resumed_by
from optuna_peppp.lowprecision.simulation.dataflow import roles_of
from optuna_peppp.lowprecision.simulation.fast_paths import without_fast_paths
from optuna_peppp.lowprecision.simulation.groups import groups_of
from optuna_peppp.lowprecision.simulation.keeping import (
    abandoned_where_it_fails,
    begun,
    ended,
    with_kept,
)
from optuna_peppp.lowprecision.simulation.part import Roles
from optuna_peppp.lowprecision.simulation.saving import packed_saved_tensors, packing
from optuna_peppp.lowprecision.simulation.sites import OutputRounding
from optuna_peppp.lowprecision.simulation.straight_through import (
    is_rounded,
    leaves_of,
    rounded,
    rounded_weights,
)


class LowPrecisionModule(nn.Module):
    """A module computing in low precision, taken as its author wrote it.

    Weights, the network's input, the output of every submodule and the gradients of those
    outputs are rounded as the quantizer's recipe says; in training and in evaluation alike.
    What a ``forward`` computes with plain functions between two modules stays float32 until the
    next one returns, unless the recipe has operators as sites: then the result of every function
    that computes is rounded, and its gradient, the scores and probabilities of attention among
    them. PyTorch's modules without submodules (an LSTM) compute as one, as fused kernels do.

    The logits are what the last modules return: those whose results reach the network's output
    by functions only, be it inside a container, as a view, or through a softmax; and the output
    itself. Gradients can be derived again. Parts that ``torch.utils.checkpoint`` computes again
    are rounded as they were.

    The wrapped module is not changed: its parameters and buffers are those being trained, and
    hooks are on it only while it runs.

    What a rule of the recipe has promoted is part of its state, ``state_dict()``.

    Args:
        module: Any module.
        quantizer: Rounds its tensors, or the recipe that says how.
        packed: Whether what a pass saves for its backward pass is held in the bits of its formats,
            by :class:`packed_saved_tensors`; eager passes only.

    Raises:
        ValueError: The module holds an embedding that changes its weights in the forward pass,
            or whose gradients are sparse; or it is an ``nn.DataParallel``; or ``quantizer`` is no
            :class:`Quantizer`; or the recipe names a module that is not there.
    """

    def __init__(
        self, module: nn.Module, quantizer: Quantizer | Recipe, *, packed: bool = False
    ) -> None:
        super().__init__()
        _check(module)
        self.quantizer = as_quantizer(quantizer)
        self._packed = packed
        self.module = module
        self._exempt = exempt_modules(kinds_of_modules(module), self.quantizer.recipe)
        self._operators = self.quantizer.recipe.sites == "operators"
        opaque = opaque_modules(module) if self._operators else None
        self.outputs = OutputRounding(self._exempt, opaque)
        # They differ where a network has outputs for its training alone.
        self._roles: dict[bool, Roles] = {}
        # Of the batch that the first pass sees, where the recipe has a rule.
        self.assigned: Assigned | None = None
        # Its state, where one was loaded before that.
        self._of_assigned: dict[str, Tensor] = {}

    def forward(self, *inputs: Any, **named_inputs: Any) -> Any:
        """Calls the module on inputs of any structure; its output is the logits.

        Raises:
            RuntimeError: A backward pass computes all of this module again, and rounding is
                stochastic with a generator, whose numbers it would draw anew.
        """
        gradients = torch.is_grad_enabled()
        # Tensors made in inference mode have no version, which tells of a change in place.
        with torch.inference_mode(False), torch.set_grad_enabled(gradients):
            self._prepare((inputs, named_inputs))
            rounder = self.quantizer.rounder(self._device((inputs, named_inputs)))
            if rounder.keys is not None and self.quantizer.generator is not None:
                _refuse_recomputation()
            packs = self._packed and gradients and packing() is None
            block = packed_saved_tensors(self.quantizer.recipe) if packs else nullcontext()
            with block, self.hooked(), resumed_by(self._bookmark), abandoned_where_it_fails():
                return self.compute(rounder, *inputs, **named_inputs)

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Puts the hooks on that :meth:`compute` needs."""
        with self.outputs.on(self.module), without_fast_paths(self.module):
            yield

    def compute(self, rounder: Rounder, *inputs: Any, **named_inputs: Any) -> Any:
        """The passes themselves: what of a :meth:`forward` can be compiled."""
        outputs = self.outputs
        block = packing() if torch.is_grad_enabled() else None
        keeps = rounder.rounds("saved") and torch.is_grad_enabled() and block is None
        if block is not None:
            block.begin(rounder.recipe, [*self.module.parameters(), *self.module.buffers()])
        try:
            parameters: dict[str, Tensor] = dict(self.module.named_parameters())
            low, assigned = None, self.assigned
            if assigned is not None:
                assigned.begin(counting=self.module.training and torch.is_grad_enabled())
                low = assigned.weights(list(filter(is_rounded, parameters.values())))
            weights = rounded_weights(rounder, parameters, self._exempt, low)
            roles = self._roles.get(self.module.training, Roles())
            if block is not None:
                block.weights(rounder, parameters, self._exempt, weights)
            state = list(self.module.buffers()) if self._operators else []
            outputs.begin(rounder, roles, weights, state, keeps, assigned=assigned)
            given = begun((inputs, named_inputs)) if keeps else (inputs, named_inputs)
            if assigned is not None and assigned.ends:
                of_input = assigned.of(rounder, INPUT, given)
                arguments = rounded(of_input, given, "activations", None)
            else:
                arguments = rounded(rounder, given, "input", None)
            inputs, named_inputs = arguments
            if block is not None:
                block.site(rounder, given, arguments, "input")
            if keeps:
                inputs, named_inputs = with_kept(rounder, given, arguments, "input")
            with outputs.operators():
                output = functional_call(self.module, weights, inputs, named_inputs)
            output = outputs.finish(output)
            if assigned is not None:
                assigned.end()
            return ended(output) if keeps else output
        finally:
            outputs.end()

    def _prepare(self, inputs: Any) -> None:
        """Finds out what must be known of the network before it runs the first time."""
        recipe = self.quantizer.recipe
        if self.module.training not in self._roles and recipe:
            self._roles[self.module.training] = roles_of(self.module, inputs, self._operators)
        if self.assigned is None and recipe.rule is not None:
            positional, named = inputs
            self.assigned = Assigned(
                recipe.rule,
                groups_of(self.module, positional, named, self._operators),
                [name for name, x in self.module.named_parameters() if is_rounded(x)],
                (recipe.get("weights"), recipe.get("activations")),
                self._device(inputs),
                self._exempt,
            )
            if self._of_assigned:
                self.assigned.load_state_dict(self._of_assigned)
                self._of_assigned = {}

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        if self.assigned is None and self.quantizer.recipe.rule is not None:
            own = f"{prefix}assigned."
            self._of_assigned = {
                key.removeprefix(own): state_dict.pop(key)
                for key in [*state_dict]
                if key.startswith(own)
            }
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _bookmark(self) -> Callable[[Function], Function]:
        """Functions that are called as if the pass stood where it stands now."""
        part = self.outputs.part()

        def resuming(function: Function) -> Function:
            def resumed(*arguments: Any, **named: Any) -> Any:
                with ExitStack() as stack:
                    if not self.outputs.running:
                        stack.enter_context(self.hooked())
                    stack.enter_context(self.outputs.resumed(part))
                    stack.enter_context(resumed_by(self._bookmark))
                    weights = {f"module.{name}": weight for name, weight in part.weights.items()}
                    caller = _Caller(self.module)
                    return functional_call(caller, weights, (function, *arguments), named)

            return resumed

        return resuming

    def _device(self, inputs: Any) -> torch.device:
        tensors = [*self.module.parameters(), *leaves_of(inputs)]
        return next((x.device for x in tensors if isinstance(x, Tensor)), torch.device("cpu"))


class _Caller(nn.Module):
    """Calls a function while the tensors of a module are others."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, function: Function, *arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)


def _check(module: nn.Module) -> None:
    if isinstance(module, nn.DataParallel):
        raise ValueError(
            "module must not be an nn.DataParallel, whose replicas do not see rounded weights; "
            "give its attribute module instead"
        )
    for name, submodule in module.named_modules():
        if not isinstance(submodule, (nn.Embedding, nn.EmbeddingBag)):
            continue
        described = f"module {name!r} ({type(submodule).__name__})"
        if submodule.max_norm is not None:
            raise ValueError(
                f"{described} has max_norm={submodule.max_norm}, by which a forward pass changes "
                "weights that are rounded there; make it without max_norm and limit the norms "
                "after each step of the optimizer"
            )
        if submodule.sparse:
            raise ValueError(
                f"{described} has sparse=True, and sparse gradients cannot be rounded; "
                "make it with sparse=False"
            )


def _refuse_recomputation() -> None:
    if backward_pass() != -1:
        raise RuntimeError(
            "a backward pass computes a LowPrecisionModule again, whose stochastic rounding would "
            "draw other numbers from its generator; checkpoint parts of the module inside it, or "
            "make its Quantizer without a generator"
        )
