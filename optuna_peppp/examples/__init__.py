"""Programs to begin with, each run by a test: ``python -m optuna_peppp.examples.NAME``."""
