"""The command ``optuna-peppp``: parses, calls the library, prints."""
# ruff: noqa: I001 (the order of imports is the order of --help)

from optuna_peppp.cli.app import app
from optuna_peppp.cli import collecting, corpora, evaluation, memory, tuning, recommending

__all__ = ["app", "collecting", "corpora", "evaluation", "memory", "recommending", "tuning"]
