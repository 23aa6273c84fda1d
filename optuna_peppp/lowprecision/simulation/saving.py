"""What the forward pass saves for the backward pass, held in the bits of its formats.

Operations hand what they save to hooks of autograd. A tensor that a site has rounded is recognised
by its storage, and packed into the format of that site, once however many operations save it. So
are the results that activations save themselves before a site rounds them, where rounding changed
nothing; of what a ReLU saves, only the signs matter otherwise, one bit each. Integers have as
few bits as the largest of them takes, masks one. All else is kept as it is.

Gradients stay what they are without packing, bit for bit, but for those through tensors that a
recipe keeps in a format of their own (role ``saved``).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules.module import register_module_forward_pre_hook

from optuna_peppp.configurations.formats import FloatFormat, Format, MachineFloat
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.roles import Role
from optuna_peppp.lowprecision.compatibility import (
    OptimizedModule,
    saved_by_relu,
    storage_key,
    storage_watch,
    unseen,
)
from optuna_peppp.lowprecision.rounding.rounder import Rounder
from optuna_peppp.lowprecision.rounding.scheme import Quantizer
from optuna_peppp.lowprecision.simulation.saved import (
    SMALL,
    Saved,
    Site,
    flat,
    formats_of,
    nbytes_of,
    same,
    unpacked,
)
from optuna_peppp.lowprecision.simulation.straight_through import is_rounded, leaves_of
from optuna_peppp.text import quoted


class packed_saved_tensors:  # noqa: N801, a context manager, named as torch's are
    """Within this block, forward passes hold what they save in as few bits as its format has.

    Around a :class:`LowPrecisionModule` the formats are those of its own recipe, and gradients are
    those without this block, bit for bit; what is computed beside the module, the loss, is kept as
    it is. Around any other network, as in an ordinary training in float32 or bfloat16, what its
    modules save is rounded to the recipe's role ``saved``, or ``activations`` where it has none, as
    in ActNN (Chen et al., 2021); parameters and buffers of modules are not.

    The block ends before the backward pass, which unpacks. It is for eager passes: a compiled
    function takes no notice of it.

    Args:
        recipe: Which tensor is in which format, or the name of one, as of :meth:`Recipe.named`.

    Raises:
        ValueError: A module that ``torch.compile`` made runs in the block; or no recipe, an unknown
            name, or one that has neither role.

    >>> network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    >>> with packed_saved_tensors(Recipe.named("mxfp8")) as held:
    ...     loss = network(torch.ones(32, 64)).sum()
    >>> held.nbytes < held.nbytes_unpacked
    True
    >>> loss.backward()
    """

    def __init__(self, recipe: Recipe | str) -> None:
        if isinstance(recipe, str):
            recipe = Recipe.named(recipe)
        if not isinstance(recipe, Recipe) or not {"saved", "activations"} & recipe.keys():
            raise ValueError(
                "recipe must be a Recipe with the role 'saved' or 'activations'; got "
                f"{quoted(recipe)}: give Recipe.hardware('int4@256/minmax')"
            )
        self._recipe = recipe
        self._hooks = saved_tensors_hooks(unseen(self._pack), unseen(unpacked))
        self._sites: dict[int, Site] = {}
        self._pending: list[Saved] = []
        self._held: weakref.WeakSet[Saved] = weakref.WeakSet()
        self._own: dict[int, Callable[[], bool]] = {}
        self._exact, self._number = False, 0
        self._formats: list[Format] = []
        self._modules: list[Any] = []
        self._rounders: dict[torch.device, Rounder] = {}

    def __enter__(self) -> Self:
        _running().append(self)
        self._hooks.__enter__()
        self._modules.append(register_module_forward_pre_hook(self._enter_module))
        return self

    def __exit__(self, *error: object) -> None:
        self._modules.pop().remove()
        self._hooks.__exit__(None, None, None)
        _running().remove(self)
        self._settle()
        self._sites.clear()
        for saved in self._held:
            saved.share()

    @property
    def nbytes(self) -> int:
        """Bytes of what is held, each storage once, of what the backward pass has not freed."""
        held = {id(part): part for saved in self._held for part in saved.parts()}
        return sum(map(nbytes_of, held.values()))

    @property
    def nbytes_unpacked(self) -> int:
        """Bytes that it would have without packing: of the storages that were saved."""
        return sum({saved.storage: saved.size for saved in self._held}.values())

    def begin(self, recipe: Recipe, own: Sequence[Tensor]) -> None:
        """Begins a pass of a network that rounds, with parameters and buffers of its own."""
        self._exact = True
        self._formats = formats_of(recipe, "activations", None)
        self._owns(own)

    def _owns(self, own: Sequence[Tensor]) -> None:
        for x in own:
            self._own[storage_key(x)] = storage_watch(x)

    def _is_own(self, saved: Saved) -> bool:
        """Whether it is a parameter or buffer, which is there in any case."""
        gone = self._own.get(saved.storage)
        return gone is not None and not gone()

    def site(
        self,
        rounder: Rounder,
        raw: Any,
        values: Any,
        role: Role,
        exemption: int | None = None,
        index: int = 0,
    ) -> None:
        """Tells of tensors that a network rounded.

        Args:
            rounder: Of the pass.
            raw: As they were computed.
            values: As they were rounded.
            role: What they are.
            exemption: Of the module that computed them.
            index: Number of the first tensor; the others follow.
        """
        saved = rounder.recipe.get("saved") if role in ("input", "activations") else None
        formats = formats_of(rounder.recipe, role, exemption)
        computed, relus = leaves_of(raw), list[Site]()
        for place, after in enumerate(leaves_of(values)):
            before = computed[place]
            if not isinstance(after, Tensor) or not is_rounded(after) or after.is_complex():
                continue
            if saved is not None:
                site = Site(after, (), kept=True)
                packed = rounder.pack_kept(after.detach(), saved, role, index + place)
                site.packed[0, after.numel()] = packed
            else:
                site = Site(after, formats)
                self._pack_blocks(site, rounder, before, after, formats, role, index + place)
            self._remember(site, before, after)
            of_relu = saved_by_relu(before)
            if isinstance(of_relu, Saved):
                computed_by_relu = self._sites[storage_key(before)]
                computed_by_relu.of_relu = of_relu, after
                relus.append(computed_by_relu)
        self._settle()
        for site in relus:
            site.of_relu = None

    def weights(
        self,
        rounder: Rounder,
        parameters: Mapping[str, Tensor],
        exempt: Mapping[str, int],
        weights: Mapping[str, Tensor],
    ) -> None:
        """Tells of a network's weights, by name, as they were rounded."""
        exemptions = [exempt.get(name.rpartition(".")[0]) for name in weights]
        for group, exemption in enumerate(dict.fromkeys((None, *exemptions))):
            formats = formats_of(rounder.recipe, "weights", exemption)
            names = [n for n, own in zip(weights, exemptions, strict=True) if own == exemption]
            for index, name in enumerate(names, group * len(weights)):
                site = Site(weights[name], formats)
                raw, weight = parameters[name], weights[name]
                self._pack_blocks(site, rounder, raw, weight, formats, "weights", index)
                self._remember(site, weights[name])

    def _pack_blocks(
        self,
        site: Site,
        rounder: Rounder,
        raw: Tensor,
        values: Tensor,
        formats: Sequence[Format],
        role: Role,
        index: int,
    ) -> None:
        """Packs what was rounded to a format with blocks: its scales are known of ``raw`` only."""
        for fmt in formats:
            if isinstance(fmt, FloatFormat | MachineFloat):
                continue
            packed = rounder.pack(raw.detach(), fmt, role, index)
            if same(packed.unpack(), values.detach()):
                site.packed[0, values.numel()] = packed

    def _remember(self, site: Site, *tensors: Tensor) -> None:
        for x in tensors:
            self._sites[storage_key(x)] = site.of(x)
        if len(self._sites) > 2 * len([s for s in self._sites.values() if not s.is_gone]) + 64:
            self._sites = {key: site for key, site in self._sites.items() if not site.is_gone}

    def _pack(self, x: Tensor) -> Saved | Tensor:
        if type(x) not in (Tensor, nn.Parameter) or x.layout != torch.strided:
            return x
        saved = Saved(x)
        self._held.add(saved)
        if not self._is_own(saved):
            site = self._find(saved)
            if site is None and not self._exact and is_rounded(x):
                site = self._rounded(saved)
            if site is not None:
                site.settle(saved)
            if saved.tensor is not None:
                self._pending.append(saved)  # until the module's results were rounded
        return saved

    def _find(self, saved: Saved) -> Site | None:
        site = self._sites.get(saved.storage)
        # Changed in place, it is another tensor, of the site of what has changed it.
        found = site is not None and not site.is_gone and site.version == saved.version
        return site if found else None

    def _settle(self) -> None:
        """Packs what is pending."""
        for saved in self._pending:
            if saved.is_stale:
                continue
            site = self._find(saved)
            if site is None and is_rounded(saved.numbers) and not saved.numbers.is_complex():
                # It may be a copy of what a site has rounded, in another order.
                site = Site(saved.numbers, self._formats)
            if site is not None and (site.kept or saved.numbers.numel() >= SMALL):
                site.settle(saved)
            saved.settle_otherwise()
        self._pending.clear()

    def _rounded(self, saved: Saved) -> Site | None:
        """The site that packs what a module saves that rounds nothing."""
        x = saved.numbers
        if x.numel() < SMALL or x.is_complex() or saved.place is None:
            return None
        fmt = self._recipe.get("saved") or self._recipe["activations"]
        if x.device not in self._rounders:  # and so that it draws nothing for other roles
            kept = Recipe({"saved": fmt}, self._recipe.stochastic & {"saved"})
            self._rounders[x.device] = Quantizer(kept).rounder(x.device)
        site, numbers = Site(x, (), kept=True), flat(x, saved.place)
        self._number += 1
        packed = self._rounders[x.device].pack_kept(numbers, fmt, "activations", self._number)
        site.packed[saved.place] = packed
        self._sites[saved.storage] = site
        return site

    def _enter_module(self, module: nn.Module, inputs: Any) -> None:
        mine = self in _running()  # and not of another thread
        if mine and isinstance(module, OptimizedModule):
            raise ValueError(
                "packed_saved_tensors is for eager passes, and a module of torch.compile was "
                "called in its block; call the module that it was made of"
            )
        if mine and not self._exact:
            own = (*module._parameters.values(), *module._buffers.values())
            self._owns([x for x in own if x is not None])


_RUNNING: Final = threading.local()
"""The blocks that a thread is in, the innermost last."""


def _running() -> list[packed_saved_tensors]:
    if not hasattr(_RUNNING, "blocks"):
        _RUNNING.blocks = []
    blocks: list[packed_saved_tensors] = _RUNNING.blocks
    return blocks


def packing() -> packed_saved_tensors | None:
    """The innermost block that this thread is in, None in what is being compiled."""
    blocks = () if torch.compiler.is_compiling() else _running()
    return blocks[-1] if blocks else None
