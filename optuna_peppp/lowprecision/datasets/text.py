"""Texts as bytes, in memory: the next one is to be told from those before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import torch
from torch import Tensor

from optuna_peppp.configurations.data import TEXT_KINDS, parse_name
from optuna_peppp.lowprecision.datasets.python_texts import read_python
from optuna_peppp.sizes import format_size

CONTEXT: Final = 64
"""Bytes that a network sees at most."""

MAX_TEXT: Final = 2**30
"""Bytes of the longest text that is read, unless the caller says otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class TextData:
    """A text with its train/test split.

    Attributes:
        name: What the task is called.
        train_bytes: uint8 (n,).
        test_bytes: uint8 (m,).
        context: How many bytes a network sees at most.

    Raises:
        ValueError: Shapes or dtypes that do not fit, or fewer than ``context + 1`` bytes.
    """

    name: str
    train_bytes: Tensor
    test_bytes: Tensor
    context: int = CONTEXT
    num_classes: ClassVar[int] = 256

    def __post_init__(self) -> None:
        if self.context < 1:
            raise ValueError(f"context must be at least 1; got {self.context}")
        for part, text in (("train", self.train_bytes), ("test", self.test_bytes)):
            if text.dim() != 1 or text.dtype != torch.uint8:
                raise ValueError(
                    f"{part}_bytes must be uint8 of shape (n,); got {text.dtype} of shape "
                    f"{tuple(text.shape)}"
                )
            if len(text) <= self.context:
                raise ValueError(
                    f"{part}_bytes must be at least {self.context + 1} bytes, a context of "
                    f"{self.context} and the next one; got {len(text)}: give a longer text"
                )

    @property
    def input_shape(self) -> tuple[int]:
        """(context,)."""
        return (self.context,)


def load_text(name: str, *, test_fraction: float = 0.2, max_bytes: int = MAX_TEXT) -> TextData:
    """Loads a text by name.

    Args:
        name: ``text:FILE``, bytes of any kind; ``text:FOLDER``, all its files that are not hidden,
            those of its folders too, in the order of their names; or ``python:TEXT``, one that
            every installation of Python carries, such as ``python:topics``
            (:mod:`~optuna_peppp.lowprecision.datasets.python_texts`). A path may start with ``~``.
        test_fraction: Share to test on, of every file its end.
        max_bytes: What all files may have together.

    Raises:
        ValueError: No name of a text, too short a text to learn from and to test on, or more
            than ``max_bytes``.
        FileNotFoundError: No such file or folder.
        OSError: A file cannot be read.
    """
    kind, argument = parse_name(name)
    if kind not in TEXT_KINDS:
        raise ValueError(f"name must be text:FILE-OR-FOLDER or python:TEXT; got {name!r}")
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must lie between 0 and 1; got {test_fraction}")
    if kind == "python":
        task, texts = name, [read_python(argument)]
    else:
        path = Path(argument).expanduser()
        task = path.resolve().name if path.name in ("", "..") else path.name
        texts = _read(name, path, max_bytes)
    train, test = bytearray(), bytearray()
    for text in texts:
        end = len(text) - round(test_fraction * len(text))
        train += text[:end]
        test += text[end:]
    try:
        return TextData(task, _tensor(train), _tensor(test))
    except ValueError as problem:
        raise ValueError(f"{name}: {problem}") from problem


def _read(name: str, path: Path, max_bytes: int) -> list[bytes]:
    if not path.exists():
        raise FileNotFoundError(f"{name}: there is no file or folder {path}")
    files = [path]
    if path.is_dir():
        files = sorted(
            file
            for file in path.rglob("*")
            if file.is_file()
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        )
        if not files:
            raise ValueError(f"{name}: the folder {path} holds no files")
    size = sum(file.stat().st_size for file in files)
    if size > max_bytes:
        raise ValueError(
            f"{name} holds {format_size(size)}, more than {format_size(max_bytes)}: give less"
        )
    return [file.read_bytes() for file in files]


def _tensor(text: bytearray) -> Tensor:
    return torch.from_numpy(np.frombuffer(text, dtype=np.uint8).copy())
