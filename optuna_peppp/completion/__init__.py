"""Filling an error matrix that was measured in part."""

from optuna_peppp.completion.softimpute import Completion, soft_impute, soft_impute_path

__all__ = ["Completion", "soft_impute", "soft_impute_path"]
