"""Corpora by the names that commands and users give them: shipped ones, and files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.corpora.table import CorpusTable


def load_corpus(name: str) -> ErrorMatrix:
    """A corpus that ships with the package.

    Raises:
        ValueError: No corpus of that name ships; the message lists those that do.
    """
    return ErrorMatrix.from_table(_shipped(name))


def read_corpus(corpus: str) -> ErrorMatrix:
    """A corpus as a command names it; see :func:`read_table`."""
    return ErrorMatrix.from_table(read_table(corpus))


def read_table(corpus: str) -> CorpusTable:
    """A corpus as a command names it: a file that ends in ``.csv``, or one that ships.

    Raises:
        ValueError, FileNotFoundError: As :meth:`ErrorMatrix.read_csv` and :func:`load_corpus`.
    """
    return CorpusTable.read(Path(corpus)) if corpus.endswith(".csv") else _shipped(corpus)


def _shipped(name: str) -> CorpusTable:
    folder = resources.files("optuna_peppp").joinpath("corpora")
    shipped = {
        entry.name.removesuffix(".csv"): entry
        for entry in (folder.iterdir() if folder.is_dir() else ())
        if entry.name.endswith(".csv")
    }
    if name not in shipped:
        raise ValueError(
            f"name must be a corpus that ships ({', '.join(sorted(shipped)) or 'none does'}); "
            f"got {name!r}. A file of your own, which ErrorMatrix.read_csv reads, ends in .csv"
        )
    with resources.as_file(shipped[name]) as path:
        return CorpusTable.read(path)
