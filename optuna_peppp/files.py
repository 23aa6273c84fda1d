"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path


@contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[Path]:
    """A file beside ``path`` to write to, which takes its place when this block ends well.

    A link stays one: what it leads to is replaced.

    Raises:
        OSError: The file cannot be written; the error names ``path``.
    """
    target = Path(path).resolve()
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        if target.exists() and not target.is_file():
            raise OSError(errno.EINVAL, "not a file that can be replaced", str(path))
        yield temporary
        temporary.replace(target)
    except OSError as problem:
        # What the system says of a write that fails names no file, or one that nobody asked for.
        if problem.filename in (None, str(temporary)) and problem.errno is not None:
            raise type(problem)(problem.errno, problem.strerror, str(path)) from problem
        raise
    finally:
        temporary.unlink(missing_ok=True)
