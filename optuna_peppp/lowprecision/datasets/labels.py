"""Labels of any kind as class numbers, and a test part drawn by class."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_SHOWN: Final = 5
"""So many classes are named in a message at most."""


def class_numbers(train: NDArray[Any], test: NDArray[Any]) -> tuple[Tensor, Tensor, int]:
    """Numbers the classes of a training and a test part from 0, in their order.

    Args:
        train: (n,) or (n, 1) whole numbers, truth values or text, or (n, classes) rows of zeros
            with a single one.
        test: The same of m images.

    Returns:
        int64 (n,) and (m,), and how many classes there are.

    Raises:
        ValueError: Labels that are no classes, fewer than two classes, or one that no training
            image has.
    """
    train, test = _flat("train_labels", train), _flat("test_labels", test)
    if train.dtype.kind != test.dtype.kind:
        raise ValueError(
            f"train_labels and test_labels must be of one kind; got {train.dtype} and {test.dtype}"
        )
    classes = np.unique(train)
    unseen = np.setdiff1d(test, classes)
    if len(unseen):
        raise ValueError(
            f"every class of test_labels must be in train_labels too; {listed(unseen.tolist())} "
            f"of test_labels is not among {listed(classes.tolist())}"
        )
    if len(classes) < 2:
        raise ValueError(
            f"train_labels must hold at least two classes; all are {classes.tolist()[0]!r}"
        )
    train_numbers, test_numbers = (
        torch.from_numpy(np.searchsorted(classes, part)) for part in (train, test)
    )
    return train_numbers, test_numbers, len(classes)


def draw_test_part(
    labels: NDArray[np.int64], test_fraction: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which images to train on and which to test on, drawn per class.

    Args:
        labels: (n,) class numbers, from 0 on and each at least once.
        test_fraction: Share to test on.
        seed: Of the draw.

    Raises:
        ValueError: Too few images.
    """
    from sklearn.model_selection import train_test_split

    counts = np.bincount(labels)
    tested = math.ceil(len(labels) * test_fraction)
    if counts.min() < 2 or min(tested, len(labels) - tested) < len(counts):
        raise ValueError(
            f"{len(labels)} images in {len(counts)} classes, {counts.min()} in the smallest, "
            f"cannot be split into train and test with a share of {test_fraction:g} to test on: "
            "either part needs an image of every class"
        )
    train, test = train_test_split(
        np.arange(len(labels)), test_size=test_fraction, random_state=seed, stratify=labels
    )
    return train, test


def listed(classes: list[Any]) -> str:
    """The first few classes, quoted where they are text."""
    shown = ", ".join(map(repr, classes[:_SHOWN]))
    return shown if len(classes) <= _SHOWN else f"{shown} and {len(classes) - _SHOWN} more"


def _flat(name: str, labels: NDArray[Any]) -> NDArray[Any]:
    """One label per image, int64 or text."""
    if labels.shape[:1] == (labels.size,):
        labels = labels.ravel()
    elif labels.ndim == 2 and _one_hot(labels):
        labels = labels.argmax(1)
    else:
        raise ValueError(f"{name} must hold one label per image; got shape {labels.shape}")
    kind = labels.dtype.kind
    if kind == "S":
        try:
            return np.strings.decode(labels, "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} must be text in UTF-8; got other bytes") from error
    if kind == "U":
        return labels
    if kind not in "buif":
        raise ValueError(f"{name} must be whole numbers or text; got {labels.dtype}")
    # NaN, infinity and what int64 cannot hold are no whole numbers either.
    with np.errstate(invalid="ignore"):
        numbers = labels.astype(np.int64)
        odd = (numbers != labels) | (np.abs(labels.astype(np.float64)) >= 2.0**63)
    if odd.any():
        first = int(odd.argmax())
        raise ValueError(
            f"{name} must be classes, as whole numbers or text; {int(odd.sum())} of {len(odd)} "
            f"are not, the first of them {labels[first].item()!r} at index {first}"
        )
    return numbers


def _one_hot(labels: NDArray[Any]) -> bool:
    """Whether every row is zeros with a single one."""
    if labels.dtype.kind not in "buif":
        return False
    return bool(((labels == 0) | (labels == 1)).all() and ((labels == 1).sum(1) == 1).all())
