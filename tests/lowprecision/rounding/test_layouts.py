"""Blocks of any shape, dtype, axis and memory layout."""

from __future__ import annotations

import importlib
from typing import Any, Final

import pytest
import torch
from torch import Tensor

from optuna_peppp.configurations.notation import parse_format
from optuna_peppp.lowprecision import quantize
from optuna_peppp.lowprecision.rounding.compiling import Kernel, can_compile
from optuna_peppp.lowprecision.rounding.kernels import random_keys
from optuna_peppp.lowprecision.rounding.machine import round_machine
from optuna_peppp.lowprecision.rounding.maps import mapped
from optuna_peppp.lowprecision.rounding.quantize import (
    ROUNDINGS,
    Backend,
    Rounding,
    TensorFormat,
    on_device,
)
from optuna_peppp.lowprecision.rounding.scales import microscaled, minmax, nvfp4, scaled
from tests.lowprecision.rounding.conftest import assert_equal

NAMES: Final = ("mxfp8-e4m3", "nvfp4", "int4@32", "int2@32/minmax", "dynamic4@128", "int8@32x32")
IMAGES: Final = torch.randn(4, 40, 6, 5, generator=torch.Generator().manual_seed(0))


def block_by_block(x: Tensor, name: str, columns: int) -> Tensor:
    """Every block by itself, the last one shorter."""
    moved = x.movedim(1, -1)
    rows = moved.reshape(-1, moved.shape[-1])
    parts = [
        torch.cat([quantize(part[None], name) for part in rows[:, i : i + columns]])
        for i in range(0, rows.shape[1], columns)
    ]
    return torch.cat(parts, 1).view(moved.shape).movedim(-1, 1)


@pytest.mark.parametrize("name", ["mxfp8-e4m3", "int4@32", "int2@32/minmax"])
def test_blocks_run_along_the_axis_and_the_last_is_shorter(backend: Backend, name: str) -> None:
    x = IMAGES + 3  # what a last block was filled with would be its smallest number
    expected = block_by_block(x, name, 32)
    last = x.to(memory_format=torch.channels_last)
    assert_equal(quantize(x, name, axis=1, backend=backend), expected)
    assert_equal(quantize(last, name, axis=1, backend=backend), expected)
    assert_equal(quantize(x, name, axis=-3, backend=backend), expected)
    turned = quantize(x.movedim(1, -1), name, backend=backend)
    assert_equal(turned, expected.movedim(1, -1))


@pytest.mark.parametrize("name", NAMES)
def test_blocks_of_a_flat_tensor(backend: Backend, name: str) -> None:
    x = torch.randn(7, 37, generator=torch.Generator().manual_seed(0))
    flat = quantize(x, name, axis=None, backend=backend)
    assert_equal(flat.flatten(), quantize(x.flatten(), name, backend=backend))


def test_tiles_are_of_the_matrix_whose_columns_are_the_axis(backend: Backend) -> None:
    name = "int8@32x32"
    rows = IMAGES.movedim(1, -1).reshape(-1, 40)
    expected = torch.empty_like(rows)
    for top in range(0, len(rows), 32):
        for left in (0, 32):
            tile = rows[top : top + 32, left : left + 32]
            expected[top : top + 32, left : left + 32] = quantize(tile, "int8@tensor")
    expected = expected.view(4, 6, 5, 40).movedim(-1, 1)
    assert_equal(quantize(IMAGES, name, axis=1, backend=backend), expected)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", [*NAMES, "int8@tensor", "bfloat16"])
@pytest.mark.parametrize(
    "x",
    [
        torch.randn(6, 40, generator=torch.Generator().manual_seed(0)).t(),
        torch.randn(200, generator=torch.Generator().manual_seed(1))[::3],
        torch.randn(3, 1, 5, generator=torch.Generator().manual_seed(2)).expand(3, 4, 5),
        torch.tensor(0.3),
        torch.empty(0, 3),
        torch.empty(2, 0, 3, 4),
        torch.randn(2, 33, 2, 2, dtype=torch.float64),
        torch.ones(1, 1),
    ],
    ids=["transposed", "strided", "expanded", "scalar", "empty", "images", "double", "one"],
)
def test_any_layout_and_size(backend: Backend, x: Tensor, name: str, rounding: Rounding) -> None:
    for axis in (-1, None, 0):
        generator = torch.Generator().manual_seed(0)
        rounded = quantize(x, name, rounding, generator, axis=axis, backend=backend)
        assert (rounded.shape, rounded.dtype) == (x.shape, x.dtype)
        generator = torch.Generator().manual_seed(0)
        dense = quantize(x.contiguous(), name, rounding, generator, axis=axis, backend="eager")
        assert_equal(rounded.float(), dense.float())


@pytest.mark.parametrize("name", NAMES)
def test_memory_formats_are_kept(backend: Backend, name: str) -> None:
    last = IMAGES.to(memory_format=torch.channels_last)
    for x in (IMAGES, last, IMAGES[:, :32].contiguous()):
        for axis in (1, -1):
            assert quantize(x, name, axis=axis, backend=backend).stride() == x.stride()


@pytest.mark.parametrize("name", NAMES)
def test_the_result_is_new_and_can_be_changed_in_place(backend: Backend, name: str) -> None:
    x = torch.ones(2, 32, 4, 4, requires_grad=True)
    for source in (x, x.to(memory_format=torch.channels_last), torch.ones(()), torch.empty(0)):
        before = source.detach().clone()
        rounded = quantize(source, name, axis=1 if source.dim() > 1 else -1, backend=backend)
        assert not rounded.requires_grad
        assert not rounded._is_view()
        rounded.add_(1)
        assert torch.equal(source.detach(), before)


def test_axes_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match=r"axis must be one of the 2 axes of x, or None .* got 2"):
        quantize(torch.ones(2, 3), "mxfp4", axis=2)


def test_text_that_is_no_format_is_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'mxfp8-e4m3'"):
        quantize(torch.ones(2), "mxfp8")
    with pytest.raises(ValueError, match="'qpytorch' knows formats such as 1-4-3 only; got nvfp4"):
        quantize(torch.ones(2), "nvfp4", backend="qpytorch")


def test_one_graph_serves_all_formats_of_a_kind() -> None:
    if not can_compile(quiet=True):
        pytest.skip("torch.compile does not work here: it needs a C++ compiler")
    kinds: dict[Kernel, tuple[str, ...]] = {
        round_machine: ("float32", "bfloat16", "float24", "float16", "float8-e4m3", "float4-e2m1"),
        microscaled: ("mxfp8-e4m3", "mxfp8-e5m2/rceil", "mxfp6-e2m3", "mxfp4"),
        scaled: ("float8-e4m3@128", "int8@32", "int4@32", "int2@64", "int8@32x32"),
        nvfp4: ("nvfp4",),
        minmax: ("int4@256/minmax", "int2@256/minmax"),
        mapped: ("dynamic8@256", "dynamic8@256/unsigned", "dynamic4@128", "dynamic4@64/unsigned"),
    }
    dynamo: Any = importlib.import_module("torch._dynamo")
    graphs: Any = importlib.import_module("torch._dynamo.eval_frame")
    dynamo.reset()  # forget the graphs that other tests may have added
    for kernel, names in kinds.items():
        for rounding in ROUNDINGS:
            for name in names:
                for x in (torch.randn(64, 512), IMAGES, torch.randn(300, 2)):
                    for axis in (0, 1, None):
                        quantize(x, name, rounding, axis=axis, backend="compiled")
        # To nearest, and stochastically.
        assert len(graphs._debug_get_cache_entry_list(kernel.__code__)) == 2, kernel
    for name in ("float8-e4m3@tensor", "float8-e5m2@tensor", "int8@tensor"):
        quantize(IMAGES, name, backend="compiled")
    assert len(graphs._debug_get_cache_entry_list(scaled.__code__)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", ["bfloat16", "mxfp8-e4m3", "nvfp4", "dynamic4@128", "int8@32x32"])
def test_part_of_a_larger_graph_rounds_the_same(name: str, rounding: Rounding) -> None:
    """Sizes that the compiler knows, and blocks along the channels of images."""
    if not can_compile(quiet=True):
        pytest.skip("torch.compile does not work here: it needs a C++ compiler")
    cpu = torch.device("cpu")
    fmt = on_device(parse_format(name), cpu, rounding, "compiled")
    keys = random_keys(cpu, torch.Generator().manual_seed(0)) if rounding == "stochastic" else None
    images = (IMAGES[:2], IMAGES[:, :32].to(memory_format=torch.channels_last))

    def some(tensors: tuple[Tensor, ...], fmt: TensorFormat, keys: Tensor | None) -> list[Tensor]:
        return [fmt.round(torch.relu(x), keys, axis) for x in tensors for axis in (1, None)]

    importlib.import_module("torch._dynamo").reset()  # of so many graphs it makes no more
    compiled = torch.compile(some, dynamic=False, fullgraph=True)
    for ours, theirs in zip(compiled(images, fmt, keys), some(images, fmt, keys), strict=True):
        assert_equal(ours, theirs)
        assert ours.stride() == theirs.stride()
