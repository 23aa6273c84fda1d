"""``python -m optuna_peppp``: the same as the command ``optuna-peppp``."""

from optuna_peppp.cli import app

app()
