"""Transformers of plain modules: every tensor that one computes is what a module returns.

So that hooks on modules see all of them, products and sums of activations are modules, too.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from optuna_peppp.configurations.architecture import HEAD

PATCH: Final = 4
"""Pixels on a side that ``vit`` reads as one token."""

LARGEST: Final = 64
"""Pixels on a side of the largest images of ``vit``: 256 tokens."""

_DEVIATION: Final = 0.02
"""Of the initial weights (Radford et al., 2019)."""


class _Sum(nn.Module):
    """The sum of two tensors."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class _Mean(nn.Module):
    """The mean token: (batch, tokens, width) to (batch, width)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class _Scores(nn.Module):
    """Products of queries and keys, (..., tokens, head), over the root of their length."""

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        return queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])


class _Softmax(nn.Module):
    """Shares of attention, (..., tokens, tokens); where causal, of no later token."""

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, scores: Tensor) -> Tensor:
        if self.causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        return scores.softmax(-1)


class _Mixture(nn.Module):
    """Values, (..., tokens, head), mixed by shares of attention."""

    def forward(self, shares: Tensor, values: Tensor) -> Tensor:
        return shares @ values


class _Attention(nn.Module):
    """Attention of heads of :data:`HEAD` numbers (Vaswani et al., 2017, Section 3.2)."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.projections = nn.Linear(width, 3 * width)
        self.scores = _Scores()
        self.softmax = _Softmax(causal)
        self.mixture = _Mixture()
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        projected = self.projections(x).view(batch, tokens, 3, width // HEAD, HEAD)
        queries, keys, values = projected.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = self.mixture(self.softmax(self.scores(queries, keys)), values)
        joined: Tensor = self.output(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return joined


class _Block(nn.Module):
    """Attention and two layers, each normalized before and added after."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.first_norm = nn.LayerNorm(width)
        self.attention = _Attention(width, causal)
        self.first_sum = _Sum()
        self.second_norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.second_sum = _Sum()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first_sum(x, self.attention(self.first_norm(x)))
        found: Tensor = self.second_sum(x, self.layers(self.second_norm(x)))
        return found


class _Places(nn.Module):
    """Adds to every token what is learned of its place."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.sum = _Sum()

    def forward(self, x: Tensor) -> Tensor:
        placed: Tensor = self.sum(x, self.embedding(torch.arange(x.shape[1], device=x.device)))
        return placed


class _Patches(nn.Module):
    """Images as tokens, one a square of :data:`PATCH` pixels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, width, PATCH, PATCH)

    def forward(self, images: Tensor) -> Tensor:
        patches: Tensor = self.convolution(images)
        return patches.flatten(2).transpose(1, 2)


def vit(
    name: str, num_classes: int, input_shape: tuple[int, ...], width: int | None, depth: int | None
) -> nn.Module:
    """A vision transformer (Dosovitskiy et al., 2021): logits of the mean token.

    Args:
        name: As messages call it.
        num_classes: Number of logits.
        input_shape: (channels, height, width) of an image.
        width: Numbers a token; 64 by default.
        depth: Blocks; 2 by default.

    Raises:
        ValueError: The images are too large, or cannot be cut into patches.
    """
    channels, *pixels = input_shape
    if max(pixels) > LARGEST or any(side % PATCH for side in pixels):
        raise ValueError(
            f"{name} needs images of at most {LARGEST}x{LARGEST} pixels, multiples of {PATCH}; got "
            f"{pixels[0]}x{pixels[1]}: resize them by image_size=32 (--image-size 32)"
        )
    width, depth = width or 64, depth or 2
    return _initialized(
        nn.Sequential(
            _Patches(channels, width),
            _Places(math.prod(pixels) // PATCH**2, width),
            *(_Block(width, causal=False) for _ in range(depth)),
            nn.LayerNorm(width),
            _Mean(),
            nn.Linear(width, num_classes),
        )
    )


def gpt(
    name: str, num_classes: int, input_shape: tuple[int, ...], width: int | None, depth: int | None
) -> nn.Module:
    """A causal transformer (Radford et al., 2019): at every place, logits of the next token.

    Args:
        name: As messages call it.
        num_classes: Number of tokens that there are, and of logits.
        input_shape: (context,), places that it sees at most.
        width: Numbers a token; 64 by default.
        depth: Blocks; 2 by default.
    """
    width, depth = width or 64, depth or 2
    return _initialized(
        nn.Sequential(
            nn.Embedding(num_classes, width),
            _Places(input_shape[0], width),
            *(_Block(width, causal=True) for _ in range(depth)),
            nn.LayerNorm(width),
            nn.Linear(width, num_classes),
        )
    )


def _initialized(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=_DEVIATION)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    return model
