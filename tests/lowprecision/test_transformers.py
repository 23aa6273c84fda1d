"""``vit`` and ``gpt``: their sizes, what they compute, and that hooks see all of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from optuna_peppp import training_memory
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.lowprecision import LowPrecisionModule, build_model
from optuna_peppp.lowprecision.transformers import _Attention


def numbers(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def block(width: int) -> int:
    """Two norms; projections, output and two layers with their biases."""
    return 4 * width + 12 * width**2 + (3 + 1 + 4 + 1) * width


def test_sizes_by_hand() -> None:
    gpt = build_model("gpt", 256, (24,), width=32, depth=3)
    assert numbers(gpt) == (256 + 24) * 32 + 3 * block(32) + 2 * 32 + 33 * 256
    assert gpt(torch.zeros(2, 24, dtype=torch.int64)).shape == (2, 24, 256)
    vit = build_model("vit", 5, (3, 16, 8), width=16, depth=1)
    assert numbers(vit) == (3 * 16 * 16 + 16) + 8 * 16 + block(16) + 2 * 16 + 17 * 5
    assert vit(torch.zeros(2, 3, 16, 8)).shape == (2, 5)
    assert numbers(build_model("gpt", 256, (64,))) == numbers(
        build_model("gpt", 256, (64,), width=64, depth=2)
    )


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_torchs(causal: bool) -> None:
    torch.manual_seed(0)
    attention, x = _Attention(48, causal), torch.randn(2, 7, 48)
    queries, keys, values = (
        part.view(2, 7, 3, 16).transpose(1, 2) for part in attention.projections(x).split(48, -1)
    )
    mixed = scaled_dot_product_attention(queries, keys, values, is_causal=causal)
    expected = attention.output(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x), expected)


def test_gpt_sees_no_later_byte() -> None:
    torch.manual_seed(0)
    gpt = build_model("gpt", 256, (12,), width=16)
    text = torch.randint(0, 256, (1, 12))
    changed = text.clone()
    changed[0, 7] += 1
    before, after = gpt(text), gpt(changed % 256)
    assert torch.equal(before[:, :7], after[:, :7])
    assert (before[:, 7:] != after[:, 7:]).any(-1).all()
    assert gpt(text[:, :5]).shape == (1, 5, 256)


def test_vit_knows_places() -> None:
    torch.manual_seed(0)
    vit, image = build_model("vit", 3, (1, 8, 8), width=16), torch.randn(1, 1, 8, 8)
    assert not torch.allclose(vit(image), vit(image.flip(-1)), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "classes", "shape"), [("vit", 4, (3, 8, 8)), ("gpt", 256, (8,))], ids=str
)
def test_all_that_is_computed_is_rounded(name: Any, classes: int, shape: tuple[int, ...]) -> None:
    """But views: every tensor that an operation of floats makes is an input or output in bfloat16.

    Of every module, what it is given and what it returns.
    """
    torch.manual_seed(0)
    model = build_model(name, classes, shape, width=16)
    x = torch.randint(0, 256, (2, *shape)) if name == "gpt" else torch.randn(2, *shape)
    seen: list[Tensor] = []

    def look(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        seen.extend(x for x in (*inputs, output) if x.is_floating_point())

    network = LowPrecisionModule(model, Recipe.hardware("bfloat16"))
    leaves = [m for m in model.modules() if not next(m.children(), None)]
    with network.hooked():
        handles = [leaf.register_forward_hook(look) for leaf in leaves]
        network(x)
    for handle in handles:
        handle.remove()
    assert len(seen) >= len(leaves)
    assert all(torch.equal(tensor, tensor.bfloat16().float()) for tensor in seen)


def test_memory_of_activations_is_in_their_format() -> None:
    gpt = build_model("gpt", 256, (8,), width=16, depth=1)
    full, half = (
        training_memory(gpt, (8,), 2, Recipe.hardware(name), optimizer="adamw").activations
        for name in ("float32", "bfloat16")
    )
    assert full == 2 * half
    assert full > 4 * 2 * 8 * 16
