"""Files of arrays with a header: whole, checked, versioned, without pickled objects."""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.files import replacing
from optuna_peppp.text import quoted

_LARGEST: Final = 2**30
"""Bytes of arrays in a file: more than a thousand tasks under a hundred thousand configurations."""


class Format(NamedTuple):
    """What a file is.

    Attributes:
        name: The class whose objects it holds, such as ``"optuna_peppp.MetaModel"``.
        version: Counts up whenever older programs could not read a new file.
        oldest: The oldest version that is still read.
    """

    name: str
    version: int
    oldest: int = 1


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
    size = sum(array.nbytes for array in arrays.values())
    if size > _LARGEST:
        raise ValueError(f"{path} would hold {size} bytes, more than the {_LARGEST} that are read")
    raw = json.dumps({"format": kind.name, "version": kind.version, **header}).encode()
    with replacing(path) as temporary, temporary.open("xb") as file:
        np.savez(
            file,
            allow_pickle=False,
            header=np.frombuffer(raw, dtype=np.uint8),
            **arrays,
        )


def read(
    path: str | PathLike[str], kind: Format, names: Sequence[str], optional: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """Reads header and arrays that :func:`write` wrote.

    Nothing is unpacked before it is known how large it is.

    Args:
        path: The file.
        kind: What it must be.
        names: Its arrays.
        optional: Arrays that it may hold.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, of another kind or of another version.
    """
    owner = kind.name.rpartition(".")[2]
    with Path(path).open("rb") as file:
        try:
            entries = _entries(file)
            header: dict[str, Any] = json.loads(entries["header"].tobytes())
            name, version = header["format"], header["version"]
        except Exception as problem:  # whatever a foreign file makes the parsers raise
            raise ValueError(
                f"{path} is not a file of {owner}.save, or it is damaged "
                f"({type(problem).__name__}); fit the model again and save it"
            ) from problem
    if name != kind.name:
        raise ValueError(f"{path} holds {quoted(name)}, not {kind.name!r}; give a saved {owner}")
    if version not in range(kind.oldest, kind.version + 1):
        raise ValueError(
            f"{path} has format version {quoted(version)}; this optuna_peppp reads version "
            f"{kind.version}. Upgrade optuna_peppp or, where the file is the older of the two, "
            "fit the model again"
        )
    missing = [name for name in names if name not in entries]
    if missing:
        raise ValueError(
            f"{path} is damaged: it lacks {', '.join(missing)}; fit the model again and save it"
        )
    return header, {name: entries[name] for name in (*names, *optional) if name in entries}


def _entries(file: BinaryIO) -> dict[str, NDArray[Any]]:
    """The arrays of a NumPy archive that is not compressed, as :func:`write` makes them.

    Raises:
        ValueError: An entry is compressed, or claims another size than it has; all of them
            together are therefore no larger than the file.
        zipfile.BadZipFile: An entry has another checksum, its CRC-32, than the archive says.
    """
    size = min(os.fstat(file.fileno()).st_size, 2 * _LARGEST)
    entries: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > size:
            raise ValueError("the entries are larger than the file or than any model")
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError("an entry is compressed")
            entry = io.BytesIO(archive.read(member))  # whole, or its checksum is not compared
            if np.lib.format.read_magic(entry) != (1, 0):
                raise ValueError("an entry is of another version of NumPy's format")
            shape, _, dtype = np.lib.format.read_array_header_1_0(entry)
            claimed = math.prod(shape) * dtype.itemsize
            if dtype.kind not in "fu" or claimed != member.file_size - entry.tell():
                raise ValueError("an entry is no array of numbers of the size it claims")
            entry.seek(0)
            array = np.lib.format.read_array(entry, allow_pickle=False)
            entries[member.filename.removesuffix(".npy")] = array
    return entries
