"""CIFAR-10, CIFAR-100 and its superclasses, downloaded by torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optuna_peppp.configurations.data import CIFAR100_SUPERCLASSES
from optuna_peppp.lowprecision.datasets.images import Parts, filled, rows_at_once


def read_cifar(
    kind: str, superclass: str, root: Path, image_size: int | None, max_bytes: int
) -> Parts:
    """Reads CIFAR in its two parts; downloads it first where it is not there.

    Args:
        kind: ``cifar10`` or ``cifar100``.
        superclass: Of ``cifar100``; empty for all classes.
        root: Where downloads are kept.
        image_size: Height and width to resize to, in pixels; None keeps 32.
        max_bytes: What either part may take in memory.

    Raises:
        ConnectionError: The download failed.
        ValueError: The images would take too much memory.
    """
    train, train_labels, classes = _part(kind, superclass, root, True, image_size, max_bytes)
    test, test_labels, _ = _part(kind, superclass, root, False, image_size, max_bytes)
    return train, train_labels, test, test_labels, classes


def _part(
    kind: str, superclass: str, root: Path, train: bool, image_size: int | None, max_bytes: int
) -> tuple[Tensor, Tensor, int]:
    from torchvision.datasets import CIFAR10, CIFAR100

    cifar = CIFAR100 if kind == "cifar100" else CIFAR10
    try:
        part: Any = cifar(str(root), train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise ConnectionError(
            f"{kind} could not be downloaded to {root} ({error}); download it elsewhere, put "
            "it there and try again, or use another data set"
        ) from error
    classes = CIFAR100_SUPERCLASSES.get(superclass, tuple(part.classes))
    number = {part.class_to_idx[name]: position for position, name in enumerate(classes)}
    targets = np.asarray(part.targets)
    kept = np.flatnonzero(np.isin(targets, list(number)))
    labels = torch.tensor([number[target] for target in targets[kept].tolist()])
    height, width = part.data.shape[1:3] if image_size is None else (image_size, image_size)
    rows = rows_at_once(part.data[0].size, 3 * height * width)
    pixels = (
        part.data[kept[i : i + rows]].transpose(0, 3, 1, 2) for i in range(0, len(kept), rows)
    )
    return filled(len(kept), 3, (height, width), pixels, max_bytes), labels, len(classes)
