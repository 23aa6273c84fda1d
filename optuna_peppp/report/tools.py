"""A recommendation in the words of other tools: the few lines of code that each of them needs.

What a tool does not have is said in comments, and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.recipe import Recipe

Tool = Literal["torchao", "transformer-engine", "bitsandbytes"]
"""torchao 0.18, Transformer Engine 2.15 and bitsandbytes 0.50: the releases that this was written
for."""

TOOLS: Final[tuple[Tool, ...]] = get_args(Tool)


def code(tool: Tool, recipe: Recipe, settings: Mapping[str, Any]) -> str:
    """Lines of Python that train ``model`` in a recipe of hardware with another tool.

    Args:
        tool: Which.
        recipe: As of :meth:`Recipe.hardware`.
        settings: ``optimizer`` and what it takes: ``learning_rate``, ``weight_decay``,
            ``momentum``.

    Raises:
        ValueError: Another tool, or a recipe of formats that no hardware has or of two formats.

    >>> recipe = Recipe.hardware("bfloat16", states="dynamic8@256")
    >>> sgd = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.0, "momentum": 0.9}
    >>> print(code("bitsandbytes", recipe, sgd))
    # activations bfloat16, states dynamic8@256, master float32
    import bitsandbytes as bnb
    optimizer = bnb.optim.SGD8bit(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0)
    # bitsandbytes has no activations in bfloat16: left out
    """
    check_choice("tool", tool, TOOLS)
    if recipe.rule is not None or any(isinstance(fmt, FloatFormat) for fmt in recipe.values()):
        raise ValueError(
            f"{tool} has no formats 1-e-m and no precision assignments; a study of "
            "`tune --space hardware` can be exported to it, and assignments to a FILE.json"
        )
    wanted = _Wanted.of(recipe, settings)
    lines, missing = _TOOLS[tool](wanted)
    said = [f"# {tool} has no {what}: left out" for what in missing]
    return "\n".join([f"# {wanted}", *lines, *said])


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Formats as text, and the optimizer with its arguments."""

    activations: str
    saved: str | None
    states: str
    master: str
    optimizer: str
    arguments: str

    @classmethod
    def of(cls, recipe: Recipe, settings: Mapping[str, Any]) -> _Wanted:
        def text(role: Any) -> str:
            return str(recipe.get(role) or "float32")

        optimizer = str(settings["optimizer"])
        arguments = [f"lr={settings['learning_rate']}"]
        if optimizer == "sgd":
            arguments.append(f"momentum={settings['momentum']}")
        arguments.append(f"weight_decay={settings['weight_decay']}")
        saved = str(recipe["saved"]) if "saved" in recipe else None
        formats = text("activations"), saved, text("momentum"), text("accumulators")
        return cls(*formats, optimizer, f"model.parameters(), {', '.join(arguments)}")

    def __str__(self) -> str:
        kept = f", kept in {self.saved}" if self.saved else ""
        return f"activations {self.activations}{kept}, states {self.states}, master {self.master}"

    @property
    def missing_states(self) -> list[str]:
        """What to say where a tool has nothing for the states."""
        return [] if self.states == "float32" else [f"states in {self.states}"]

    @property
    def missing_master(self) -> list[str]:
        """What to say where a tool has nothing for the master weights."""
        return [] if self.master == "float32" else [f"master weights in {self.master}"]

    @property
    def missing_activations(self) -> list[str]:
        """What to say where a tool has nothing for the activations."""
        if self.saved is not None:
            return [f"activations kept in {self.saved}"]
        return [] if self.activations == "float32" else [f"activations in {self.activations}"]


_Lines = tuple[list[str], list[str]]
"""Lines of code, and what is missing."""

_TORCHAO: Final = {"dynamic8@256": "8bit", "dynamic4@128": "4bit", "float8-e4m3@256": "Fp8"}
_ADAM: Final = {"adam": "Adam", "adamw": "AdamW"}
_OPTIMIZERS: Final = {"sgd": "SGD", **_ADAM}


def _torchao(wanted: _Wanted) -> _Lines:
    lines, missing = ["import torch"], list[str]()
    kind, states = _ADAM.get(wanted.optimizer), _TORCHAO.get(wanted.states)
    own = kind is not None and states is not None
    if own:
        lines.append(f"from torchao.optim import {kind}{states}")
    if wanted.activations == "float8-e4m3@tensor":
        lines += [
            "from torchao.float8 import convert_to_float8_training",
            "# Linear layers alone, gradients in E5M2; needs a GPU that has FP8.",
            "convert_to_float8_training(model)",
        ]
    elif wanted.activations not in ("float32", "bfloat16"):
        missing += wanted.missing_activations
    stochastic = ""
    if wanted.master == "bfloat16" and own:
        lines.append("model.to(torch.bfloat16)")
        stochastic = ", bf16_stochastic_round=True"
    else:
        missing += wanted.missing_master
    if own:
        lines.append(f"optimizer = {kind}{states}({wanted.arguments}{stochastic})")
    else:
        missing += [f"{what} of {wanted.optimizer}" for what in wanted.missing_states]
        lines.append(f"optimizer = {_of_torch(wanted)}")
    if wanted.activations == "bfloat16" and not stochastic:
        lines.append("# Run forward passes in: with torch.autocast(device_type, torch.bfloat16):")
    if wanted.saved is not None:
        lines += [
            "from optuna_peppp import Recipe, packed_saved_tensors",
            "# and in: with packed_saved_tensors("
            f'Recipe.hardware("{wanted.saved}")):  # torchao has none',
        ]
    return lines, missing


_ENGINE: Final = {
    "float8-e4m3@tensor": "Float8CurrentScaling(fp8_format=Format.E4M3)",
    "float8-e4m3@128": "Float8BlockScaling()",
    "mxfp8-e4m3": "MXFP8BlockScaling()",
    "nvfp4": "NVFP4BlockScaling()",
}


def _transformer_engine(wanted: _Wanted) -> _Lines:
    lines = ["import torch", "import transformer_engine.pytorch as te"]
    missing = [*wanted.missing_states, *wanted.missing_master]
    recipe = _ENGINE.get(wanted.activations)
    if recipe is not None:
        lines += [
            "from transformer_engine.common import recipe",
            "# The model is to be made of te.Linear, te.LayerNormLinear and the like.",
            f"scaling = recipe.{recipe.replace('Format.', 'recipe.Format.')}",
            "# Run forward passes in: with te.autocast(enabled=True, recipe=scaling):",
        ]
    elif wanted.activations == "bfloat16" and wanted.saved is None:
        lines.append("# Run forward passes in: with torch.autocast('cuda', torch.bfloat16):")
    else:
        missing = [*wanted.missing_activations, *missing]
    lines.append(f"optimizer = {_of_torch(wanted)}")
    return lines, missing


def _bitsandbytes(wanted: _Wanted) -> _Lines:
    missing = [*wanted.missing_activations, *wanted.missing_master]
    kind = _OPTIMIZERS[wanted.optimizer]
    if wanted.states == "dynamic8@256":
        own = f"bnb.optim.{kind}8bit({wanted.arguments})"
        return ["import bitsandbytes as bnb", f"optimizer = {own}"], missing
    return ["import torch", f"optimizer = {_of_torch(wanted)}"], [*wanted.missing_states, *missing]


def _of_torch(wanted: _Wanted) -> str:
    return f"torch.optim.{_OPTIMIZERS[wanted.optimizer]}({wanted.arguments})"


_TOOLS: Final[dict[Tool, Callable[[_Wanted], _Lines]]] = {
    "torchao": _torchao,
    "transformer-engine": _transformer_engine,
    "bitsandbytes": _bitsandbytes,
}
