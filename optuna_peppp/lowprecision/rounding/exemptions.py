"""Which modules of a network are exempt from a recipe: told apart by their kind or name."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.roles import KINDS, Kind


def kinds_of_modules(network: nn.Module) -> dict[str, frozenset[Kind]]:
    """The kinds of every module of a network, by name.

    ``first`` and ``last`` in the order in which they were made are modules that have a matrix or a
    convolution among their own parameters, and are no embedding; ``penultimate`` are the one before
    the last and the leaves made between the two; ``norm`` is every leaf whose class says so.
    """
    modules = dict(network.named_modules())
    products = [name for name, module in modules.items() if _multiplies(module)]
    kinds: dict[str, set[Kind]] = {name: set() for name in modules}
    if products:
        kinds[products[0]].add("first")
        kinds[products[-1]].add("last")
    if len(products) > 1:
        names = list(modules)
        before, last = map(names.index, products[-2:])
        for name in names[before:last]:
            if name == products[-2] or not next(modules[name].children(), None):
                kinds[name].add("penultimate")
    for name, module in modules.items():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            kinds[name].add("embedding")
        elif "norm" in type(module).__name__.lower() and not next(module.children(), None):
            kinds[name].add("norm")
    return {name: frozenset(own) for name, own in kinds.items()}


def exempt_modules(kinds: Mapping[str, frozenset[Kind]], recipe: Recipe) -> dict[str, int]:
    """The modules of a network that are exempt, and by which of the recipe's exemptions.

    Args:
        kinds: Of every module of the network, as :func:`kinds_of_modules` gives them.
        recipe: With the exemptions.

    Raises:
        ValueError: An exemption names a module that the network does not have.
    """
    for exemption in recipe.exemptions:
        if exemption.modules not in (*KINDS, *kinds):
            raise ValueError(
                f"an exemption must name {', '.join(KINDS)} or a module of the network; got "
                f"{exemption.modules!r}, which it does not have"
            )
    numbers = {name: recipe.at(name, own) for name, own in kinds.items()}
    return {name: number for name, number in numbers.items() if number is not None}


def exempt_parameters(network: nn.Module, recipe: Recipe) -> dict[Tensor, int]:
    """The parameters whose optimizer states are exempt, and by which of the recipe's exemptions.

    Raises:
        ValueError: As :func:`exempt_modules`.
    """
    exempt = exempt_modules(kinds_of_modules(network), recipe)
    return {
        parameter: exempt[module]
        for name, parameter in network.named_parameters()
        if (module := name.rpartition(".")[0]) in exempt
        and "momentum" in recipe.exemptions[exempt[module]].formats
    }


def _multiplies(module: nn.Module) -> bool:
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return False
    return any(parameter.dim() > 1 for parameter in module.parameters(recurse=False))
