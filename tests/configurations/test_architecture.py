from __future__ import annotations

import pytest

from optuna_peppp.configurations.architecture import (
    check_architecture,
    check_pair,
    usual_optimizer,
)


def test_what_fits() -> None:
    check_architecture("vit", 32, 1)
    check_architecture("gpt", None, None)
    check_architecture("plain3", None, None)
    check_architecture("mine:network", None, None)
    for network, data in (
        ("gpt", "text:book.txt"),
        ("gpt", "python:topics"),
        ("vit", "digits"),
        ("mine:network", "text:book.txt"),
        ("gpt", "mine:data"),
    ):
        check_pair(network, data)


@pytest.mark.parametrize(
    ("network", "width", "depth", "told"),
    [
        ("vti", None, None, r"network must be .*Did you mean 'vit'[?]"),
        ("resnet18", 32, None, "width must be left out with network resnet18; vit and gpt have"),
        ("mine:network", None, 2, "depth must be left out with network mine:network"),
        ("vit", 24, None, "width of vit must be a multiple of 16; got 24"),
        ("gpt", -16, None, "width of gpt must be a multiple of 16; got -16"),
        ("gpt", None, 0, "depth of gpt must be a whole number of at least 1; got 0"),
        ("gpt", None, True, "got True"),
        ("gpt", 16.0, None, "got 16.0"),
    ],
)
def test_what_does_not(network: str, width: int | None, depth: int | None, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_architecture(network, width, depth)


def test_data_of_another_kind() -> None:
    with pytest.raises(ValueError, match="plain3 takes images, and data text:a is a text: use gpt"):
        check_pair("plain3", "text:a")
    with pytest.raises(ValueError, match="gpt takes texts, and data digits is of images: give tex"):
        check_pair("gpt", "digits")


def test_usual_optimizers() -> None:
    names = ("plain3", "vit", "gpt", "mine:network")
    assert [usual_optimizer(name) for name in names] == ["sgd", "adamw", "adamw", "sgd"]
