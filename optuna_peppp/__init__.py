"""Pick the perfect precision: an Optuna sampler for low-precision training.

Names are loaded when they are first used: importing the package loads neither torch nor optuna.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from optuna_peppp.configurations.cost import Cost
    from optuna_peppp.configurations.formats import FloatFormat
    from optuna_peppp.configurations.notation import parse_format
    from optuna_peppp.configurations.precision import Precision
    from optuna_peppp.configurations.recipe import Recipe
    from optuna_peppp.configurations.space import ConfigurationSpace
    from optuna_peppp.corpora.catalog import load_corpus
    from optuna_peppp.corpora.matrix import ErrorMatrix
    from optuna_peppp.lowprecision import (
        build_model,
        low_precision,
        memory_vector,
        packed_saved_tensors,
        quantize,
        train,
        training_memory,
        training_step,
    )
    from optuna_peppp.meta.model import MetaModel
    from optuna_peppp.prediction import Prediction, Recommendation
    from optuna_peppp.studies.results import error_matrix_from_studies, predict
    from optuna_peppp.studies.sampler import PEPPPSampler

_MODULES: Final = {
    "ConfigurationSpace": "configurations.space",
    "Cost": "configurations.cost",
    "ErrorMatrix": "corpora.matrix",
    "FloatFormat": "configurations.formats",
    "MetaModel": "meta.model",
    "PEPPPSampler": "studies.sampler",
    "Precision": "configurations.precision",
    "Prediction": "prediction",
    "Recipe": "configurations.recipe",
    "Recommendation": "prediction",
    "build_model": "lowprecision",
    "error_matrix_from_studies": "studies.results",
    "load_corpus": "corpora.catalog",
    "low_precision": "lowprecision",
    "memory_vector": "lowprecision",
    "parse_format": "configurations.notation",
    "predict": "studies.results",
    "packed_saved_tensors": "lowprecision",
    "quantize": "lowprecision",
    "train": "lowprecision",
    "training_memory": "lowprecision",
    "training_step": "lowprecision",
}

__all__ = [
    "ConfigurationSpace",
    "Cost",
    "ErrorMatrix",
    "FloatFormat",
    "MetaModel",
    "PEPPPSampler",
    "Precision",
    "Prediction",
    "Recipe",
    "Recommendation",
    "build_model",
    "error_matrix_from_studies",
    "load_corpus",
    "low_precision",
    "memory_vector",
    "packed_saved_tensors",
    "parse_format",
    "predict",
    "quantize",
    "train",
    "training_memory",
    "training_step",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version("optuna_peppp")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
