"""What others make of the same formats: as functions of a float32 matrix, blocks in its rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Final

import torch
from torch import Tensor

Rounds = Callable[[Tensor], Tensor]

PACKAGES: Final = ("qtorch", "pychop", "torchao")


def rivals(name: str) -> dict[str, Rounds]:
    """Who else rounds to nearest in a format, by the name of the package, where it is installed."""
    found: dict[str, Rounds] = {}
    for package, makes in (("qtorch", _qtorch), ("pychop", _pychop), ("torchao", _torchao)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                for rounds in makes(name):
                    found[package] = rounds
            except Exception as error:  # what a failed build raises differs between compilers
                print(f"{package} is left out of {name}: {type(error).__name__}: {error}")
    return found


def _qtorch(name: str) -> Iterator[Rounds]:
    if name.startswith("1-"):
        quant = import_module("qtorch.quant")
        _, exponent, mantissa = map(int, name.split("-"))
        yield lambda x: quant.float_quantize(x, exponent, mantissa, "nearest")


_PYCHOP: Final = {
    "bfloat16": (8, 7),
    "float16": (5, 10),
    "float8-e4m3": (4, 3),
    "float8-e5m2": (5, 2),
    "mxfp8-e4m3": "mxfp8_e4m3",
    "mxfp6-e2m3": "mxfp6_e2m3",
    "mxfp4": "mxfp4_e2m1",
}


def _pychop(name: str) -> Iterator[Rounds]:
    kind = _PYCHOP.get(name)
    if kind is None:
        return
    pychop: Any = import_module("pychop")
    pychop.backend("torch")
    if isinstance(kind, str):
        yield lambda x: pychop.mx_quantize(x, kind)
    else:
        yield pychop.Chop(*kind, rmode=1)


_TORCHAO_MX: Final[dict[str, Any]] = {
    "mxfp8-e4m3": torch.float8_e4m3fn,
    "mxfp6-e2m3": "fp6_e2m3",
    "mxfp4": torch.float4_e2m1fn_x2,
}


def _torchao(name: str) -> Iterator[Rounds]:
    if name in _TORCHAO_MX:
        mx: Any = import_module("torchao.prototype.mx_formats.mx_tensor")
        kind = _TORCHAO_MX[name]

        def microscaled(x: Tensor) -> Tensor:
            scale, data = mx.to_mx(x, kind, 32)
            rounded: Tensor = mx.to_dtype(data, scale, kind, 32, torch.float32)
            return rounded

        yield microscaled
    elif name == "nvfp4":
        nv: Any = import_module("torchao.prototype.mx_formats.nvfp4_tensor")

        def nvfp4(x: Tensor) -> Tensor:
            whole = nv.per_tensor_amax_to_scale(x.abs().amax())
            rounded: Tensor = nv.NVFP4Tensor.to_nvfp4(x, per_tensor_scale=whole).dequantize()
            return rounded

        yield nvfp4
    elif name.startswith("float8-e4m3@") and name != "float8-e4m3@tensor":
        fp8: Any = import_module("torchao.optim.subclass_fp8")

        def scaled(x: Tensor) -> Tensor:
            codes, scale = fp8.quantize_fp8(x, int(name.partition("@")[2]))
            rounded: Tensor = (codes.float().view(len(scale), -1) * scale[:, None]).view(x.shape)
            return rounded

        yield scaled
    elif name in ("dynamic8@256", "dynamic4@128"):
        states: Any = import_module("torchao.optim.quant_utils")
        bits, columns = int(name[7]), int(name.partition("@")[2])
        table = states.create_dynamic_map(True, *((3, 4) if bits == 4 else ()))
        search = states.quantize_8bit_with_qmap if bits == 8 else states.quantize_4bit_with_qmap

        def mapped(x: Tensor) -> Tensor:
            numbers = torch.tensor(table, device=x.device)
            data, scale = states.scale_tensor(x, columns)
            rounded: Tensor = states.dequant_with_qmap(search(data, numbers), numbers, scale)
            return rounded

        yield mapped
