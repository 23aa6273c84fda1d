"""Facts of Lee et al. (TMLR 2023) that follow from shapes alone, beside what we compute.

Batches of 128 images of 32 pixels, 16 bits high and 8 low; ``n: x`` are the number of groups
demoted and the share of bits saved, of those that could be. The expected numbers were computed from
the rules of the authors' released code (wonyeol/mixed-prec-train) with tensors without data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import torch
from torch import nn

from benchmarks.assignments.networks import NETWORKS, WithLoss
from optuna_peppp.configurations.assignments import Assignment, Rule, demoted
from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.sites import Groups
from optuna_peppp.lowprecision import build_model, groups

_HIGH: Final = FloatFormat(6, 9)
_RATIOS: Final = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


class _Network(NamedTuple):
    """What is expected of one network for CIFAR-100."""

    operators: int
    groups: int
    parameters: int
    numbers: int
    by_operator: float
    by_ratio: tuple[tuple[int, float], ...]


_EXPECTED: Final = {
    "SqueezeNet": _Network(
        *(83, 27, 781_156, 356_966_344, 0.1731),
        ((1, 0.2291), (2, 0.3819), (4, 0.5289), (7, 0.7053), (15, 0.9112), (27, 0.9978)),
    ),
    "ShuffleNet-v2": _Network(
        *(196, 58, 1_356_104, 521_153_424, 0.2689),
        ((2, 0.1386), (6, 0.3210), (13, 0.5105), (22, 0.7033), (40, 0.9052), (58, 0.9974)),
    ),
    "MobileNet-v2": _Network(
        *(169, 59, 2_412_212, 1_313_564_264, 0.3276),
        ((2, 0.1724), (4, 0.3161), (10, 0.5173), (19, 0.7042), (35, 0.9069), (59, 0.9982)),
    ),
    "ResNet-18": _Network(
        *(70, 22, 11_220_132, 543_502_920, 0.2791),
        ((1, 0.1236), (3, 0.3398), (5, 0.5252), (9, 0.7427), (15, 0.9070), (22, 0.9794)),
    ),
}

_RESNET18_CIFAR10: Final = (
    *(789_888, 50_405_632, 50_405_632, 67_182_848, 50_405_632, 67_272_960, 25_461_248),
    *(16_777_728, 33_849_856, 25_461_248, 34_210_304, 13_763_584, 8_389_632, 17_957_888),
    *(13_763_584, 19_399_680, 11_012_096, 4_196_352, 13_109_248, 11_012_096, 8_531_988, 5_376),
)


class Anchor(NamedTuple):
    """One fact: what is expected, and what we compute."""

    name: str
    expected: object
    found: object


def anchors() -> Iterator[Anchor]:
    """All facts, network by network."""
    for name, expected in _EXPECTED.items():
        found = _of(NETWORKS[name](100))
        numbers = sum(found.sizes)
        yield Anchor(f"{name}: operators", expected.operators, len(found.sites))
        yield Anchor(f"{name}: groups", expected.groups, len(found.sizes))
        parameters = sum(p.numbers for p in found.parameters.values())
        yield Anchor(f"{name}: parameters", expected.parameters, parameters)
        yield Anchor(f"{name}: numbers", expected.numbers, numbers)
        by_operator = Rule(_HIGH, order="operator").of(found)
        yield Anchor(f"{name}: operator", expected.by_operator, _saved(found, by_operator))
        for ratio, wanted in zip(_RATIOS, expected.by_ratio, strict=True):
            count = len(demoted(found.sizes, ratio))
            got = count, _saved(found, Rule(_HIGH, ratio).of(found))
            yield Anchor(f"{name}: {ratio}", wanted, got)
    yield from _of_resnet18()
    yield from _of_ours()


def _of_resnet18() -> Iterator[Anchor]:
    found = _of(NETWORKS["ResNet-18"](10))
    yield Anchor("ResNet-18, CIFAR-10: sizes", _RESNET18_CIFAR10, found.sizes)
    yield Anchor(
        "ResNet-18, CIFAR-10: order", (5, 3, 1, 2, 4, 10, 8, 6, 9, 15, 13), _order(found)[:11]
    )
    low = Rule(_HIGH, order="operator").of(found)
    yield Anchor(
        "ResNet-18, CIFAR-10: operator",
        (70_254_592, 70_254_592, 11_157_504),
        (
            sum(found.sites[n].numbers for n in low.activations),
            sum(found.sites[n].numbers for n in low.gradients),
            sum(found.parameters[name].numbers for name in low.weights),
        ),
    )
    for demotion, expected in ((0.0, 1_086_729_000), (1.0, 554_538_462)):
        bits = Rule(_HIGH, demotion).of(found).bits(found, 8, 8, 16, 16)
        yield Anchor(f"ResNet-18, CIFAR-10: bytes at {demotion}", expected, bits / 8)


def _of_ours() -> Iterator[Anchor]:
    """Of our networks, whose sums and loss are no modules."""
    plain3 = groups(build_model("plain3", 5, (3, 16, 16)), torch.zeros(32, 3, 16, 16))
    yield Anchor("plain3: sizes", (52_608, 934_144, 983_552, 216_586, 320), plain3.sizes)
    yield Anchor("plain3: order", (2, 1, 3, 0, 4), _order(plain3))
    larger = groups(build_model("plain3", 5, (3, 32, 32)), torch.zeros(32, 3, 32, 32))
    yield Anchor("plain3, 32 pixels: order", (1, 2, 3, 0, 4), _order(larger))
    resnet20 = groups(build_model("resnet20", 5, (3, 32, 32)), torch.zeros(32, 3, 32, 32))
    yield Anchor("resnet20: groups", 23, len(resnet20.sizes))
    yield Anchor("resnet20: numbers", 38_494_058, sum(resnet20.sizes))
    expected = (7, *range(1, 7), 14, 8, *range(10, 14), 9, 15, *range(17, 22), 16, 0, 22)
    yield Anchor("resnet20: order", expected, _order(resnet20))
    resnet18 = groups(build_model("resnet18", 100, (3, 32, 32)), torch.zeros(128, 3, 32, 32))
    yield Anchor("resnet18: groups", 22, len(resnet18.sizes))
    yield Anchor("resnet18: activations", 229_061_120, sum(s.numbers for s in resnet18.sites))
    yield Anchor("resnet18: numbers", 480_562_504, sum(resnet18.sizes))


def _of(network: nn.Module) -> Groups:
    batch = torch.zeros(128, 3, 32, 32), torch.zeros(128, dtype=torch.long)
    return groups(WithLoss(network), batch)


def _saved(found: Groups, low: Assignment) -> float:
    """The share of bits saved, of half of them: all that could be."""
    return round(2 - low.bits(found, 8, 8, 16, 16) / (8 * sum(found.sizes)), 4)


def _order(found: Groups) -> tuple[int, ...]:
    sizes = found.sizes
    return tuple(sorted(range(len(sizes)), key=lambda group: (-sizes[group], group)))
