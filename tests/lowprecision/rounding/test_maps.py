"""Optimizer states beside torchao's maps."""

from __future__ import annotations

import importlib
import math
import warnings
from typing import Any, Final

import numpy as np
import pytest
import torch
from torch import Tensor

from optuna_peppp.configurations.elements import DynamicMap
from optuna_peppp.lowprecision import quantize
from optuna_peppp.lowprecision.rounding import maps
from optuna_peppp.lowprecision.rounding.quantize import ROUNDINGS, Backend, Rounding
from tests.lowprecision.rounding.conftest import any_patterns, around, assert_equal

MAPS: Final = {
    "dynamic8@256": (DynamicMap(8), 256),
    "dynamic8@256/unsigned": (DynamicMap(8, signed=False), 256),
    "dynamic4@128": (DynamicMap(4), 128),
    "dynamic4@128/unsigned": (DynamicMap(4, signed=False), 128),
}


@pytest.fixture(scope="module")
def torchao() -> Any:
    """torchao's optimizer states."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module("torchao.optim.quant_utils")
        except ImportError as error:
            pytest.skip(f"torchao cannot be imported here: {error}")


def table(ao: Any, element: DynamicMap) -> Tensor:
    """torchao's map."""
    if element.bits == 8:
        return torch.tensor(ao.create_dynamic_map(element.signed))
    if element.signed:
        return torch.tensor(ao.create_dynamic_map(True, 3, 4))
    return torch.linspace(0, 1, 17)[1:]


def reference(ao: Any, x: Tensor, element: DynamicMap, columns: int) -> Tensor:
    """What torchao makes of blocks."""
    numbers = table(ao, element)
    search = ao.quantize_8bit_with_qmap if element.bits == 8 else ao.quantize_4bit_with_qmap
    scaled, scale = ao.scale_tensor(x, columns)
    result: Tensor = ao.dequant_with_qmap(search(scaled, numbers), numbers, scale)
    return result


def rows(element: DynamicMap, columns: int) -> Tensor:
    """Numbers of the map, middles and neighbours; what optimizers have; random patterns."""
    numbers = element.numbers().astype(np.float64)
    close = around(numbers).clamp(-1, 1)
    cells = torch.from_numpy(maps._cells(element)).flatten()
    close = torch.cat([close, cells[cells.isfinite()]])
    close = close[: len(close) // (columns - 1) * (columns - 1)].view(-1, columns - 1)
    close = torch.cat([torch.ones(len(close), 1), close], 1)  # a scale of one
    generator = torch.Generator().manual_seed(0)
    moments = torch.randn(1000, columns, generator=generator).mul(4).exp() * 1e-6
    moments *= torch.randn(1000, columns, generator=generator).sign()
    moments[3], moments[4, 1:] = 0, 0
    everything = any_patterns()[: 2**20].view(-1, columns)
    everything = torch.where(everything.isinf(), 0, everything)
    return torch.cat([close, moments, everything])


@pytest.mark.parametrize("name", MAPS)
def test_maps_are_torchaos(torchao: Any, name: str) -> None:
    element, _ = MAPS[name]
    np.testing.assert_array_equal(element.numbers(), table(torchao, element).numpy())


@pytest.mark.parametrize("name", MAPS)
def test_nearest_is_torchaos(torchao: Any, backend: Backend, name: str) -> None:
    element, columns = MAPS[name]
    x = rows(element, columns)
    theirs = reference(torchao, x, element, columns)
    assert_equal(quantize(x, name, backend=backend), theirs)


def test_infinity_makes_nan_of_its_block(torchao: Any, backend: Backend) -> None:
    x = torch.ones(2, 256)
    x[1, 3] = math.inf
    rounded = quantize(x, "dynamic8@256", backend=backend)
    assert bool(rounded[1].isnan().all())
    assert bool((rounded[0] == 1).all())
    theirs = reference(torchao, x, DynamicMap(8), 256)
    assert theirs[1, 3] == -math.inf


@pytest.mark.parametrize("name", MAPS)
def test_a_cell_has_one_threshold_at_most(name: str) -> None:
    element, _ = MAPS[name]
    numbers = element.numbers()
    for row in maps._cells(element)[:, 0]:
        thresholds = np.unique(row[np.isfinite(row)])
        bits = np.abs(thresholds).view(np.int32) >> (23 - maps._FINE)
        cell = np.clip(bits - maps._BASE, 0, maps._CELLS) * np.where(thresholds < 0, -1, 1)
        assert len(np.unique(cell)) == len(cell) >= len(numbers) - 1


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", MAPS)
def test_eager_and_compiled_are_one(name: str, rounding: Rounding) -> None:
    x = rows(*MAPS[name])
    eager = quantize(x, name, rounding, torch.Generator().manual_seed(0), backend="eager")
    compiled = quantize(x, name, rounding, torch.Generator().manual_seed(0), backend="compiled")
    assert_equal(eager, compiled)


@pytest.mark.parametrize("name", MAPS)
def test_stochastic_is_unbiased_between_the_neighbours(backend: Backend, name: str) -> None:
    element, columns = MAPS[name]
    generator = torch.Generator().manual_seed(0)
    block = torch.rand(1, columns, generator=generator) ** 4
    if element.signed:
        block[0, ::2] *= -0.8
    else:
        block.clamp_(min=float(element.numbers()[0]))
    block[0, 0] = 1
    x = block.expand(20_000, columns).contiguous()
    rounded = quantize(x, name, "stochastic", generator, backend=backend)
    numbers, exact = element.numbers(), block[0].numpy()
    upper = np.searchsorted(numbers, exact)
    above = torch.from_numpy(numbers[upper])
    below = torch.from_numpy(numbers[np.where(numbers[upper] == exact, upper, upper - 1)])
    assert bool(((rounded == below) | (rounded == above)).all())
    gap = (above - below).double()
    chance = torch.where(gap > 0, (block[0] - below) / gap, 0.5)
    # Five standard errors, and five that are up where almost none should be.
    error = gap * ((chance * (1 - chance) / len(x)).sqrt() + 1 / len(x))
    assert bool(((rounded.double().mean(0) - block[0]).abs() <= 5 * error).all())


@pytest.mark.parametrize("name", ["dynamic8@256/unsigned", "dynamic4@128"])
def test_numbers_of_the_map_are_fixed_points(backend: Backend, name: str) -> None:
    element, columns = MAPS[name]
    numbers = torch.from_numpy(element.numbers())[None]
    assert numbers.shape[1] <= columns
    for rounding in ROUNDINGS:
        assert_equal(quantize(numbers, name, rounding, backend=backend), numbers)
