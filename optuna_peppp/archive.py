"""Files of arrays with a header: whole, checked, versioned, without pickled objects."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Format(NamedTuple):
    """What a file is.

    Attributes:
        name: The class whose objects it holds, such as ``"optuna_peppp.MetaModel"``.
        version: Counts up whenever older programs could not read a new file.
    """

    name: str
    version: int


@contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[Path]:
    """A file beside ``path`` to write to, which takes its place when this block ends well."""
    target = Path(path)
    temporary = target.with_name(f"{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write(
    path: str | PathLike[str],
    kind: Format,
    header: Mapping[str, Any],
    arrays: Mapping[str, NDArray[np.float64]],
) -> None:
    """Writes a NumPy archive to exactly ``path``; it appears whole or not at all.

    Args:
        path: The file.
        kind: What it is.
        header: Whatever JSON can hold.
        arrays: The arrays by name.
    """
    raw = json.dumps({"format": kind.name, "version": kind.version, **header}).encode()
    with replacing(path) as temporary, temporary.open("xb") as file:
        np.savez(
            file,
            allow_pickle=False,
            header=np.frombuffer(raw, dtype=np.uint8),
            checksum=np.frombuffer(_checksum(raw, arrays), dtype=np.uint8),
            **arrays,
        )


def read(
    path: str | PathLike[str], kind: Format, names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """Reads header and arrays that :func:`write` wrote.

    Args:
        path: The file.
        kind: What it must be.
        names: Its arrays, in the order of writing.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, of another kind or of another version.
    """
    content = Path(path).read_bytes()
    owner = kind.name.rpartition(".")[2]
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            entries = {name: file[name] for name in file.files}
        raw = entries["header"].tobytes()
        header: dict[str, Any] = json.loads(raw)
        name, version = header["format"], header["version"]
    except Exception as problem:  # whatever a foreign file makes the parsers raise
        raise ValueError(
            f"{path} is not a file of {owner}.save, or it is damaged "
            f"({type(problem).__name__}); fit the model again and save it"
        ) from problem
    if name != kind.name:
        raise ValueError(f"{path} holds {name!r}, not {kind.name!r}; give a saved {owner}")
    if version != kind.version:
        raise ValueError(
            f"{path} has format version {version!r}; this optuna_peppp reads version "
            f"{kind.version}. Upgrade optuna_peppp or, where the file is the older of the two, "
            "fit the model again"
        )
    try:
        arrays = {name: entries[name] for name in names}
        intact = entries["checksum"].tobytes() == _checksum(raw, arrays)
    except KeyError:
        intact = False
    if not intact:
        raise ValueError(
            f"{path} is damaged: its checksum does not match; fit the model again and save it"
        )
    return header, arrays


def _checksum(header: bytes, arrays: Mapping[str, NDArray[np.float64]]) -> bytes:
    """SHA-256 of the header and of every array's name, shape, type and bytes."""
    digest = hashlib.sha256(header)
    for name, values in arrays.items():
        array = np.ascontiguousarray(values)
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.digest()
