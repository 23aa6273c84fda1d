"""Multi-objective sampling that learns from past studies, where one objective is known."""

from optuna_peppp import (
    ConfigurationSpace,
    Cost,
    MetaModel,
    PEPPPSampler,
    error_matrix_from_studies,
    predict,
)

__all__ = [
    "ConfigurationSpace",
    "Cost",
    "MetaModel",
    "PEPPPSampler",
    "error_matrix_from_studies",
    "predict",
]
