"""Pick the perfect precision: an Optuna sampler for low-precision training.

Names are loaded when they are first used: importing the package loads neither torch nor optuna.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from optuna_peppp.formats import FloatFormat, Precision
    from optuna_peppp.lowprecision import (
        build_model,
        memory_vector,
        quantize,
        train,
        training_memory,
    )
    from optuna_peppp.matrix import ErrorMatrix, load_corpus
    from optuna_peppp.meta import MetaModel
    from optuna_peppp.prediction import Prediction, Recommendation
    from optuna_peppp.sampler import PEPPPSampler
    from optuna_peppp.space import ConfigurationSpace
    from optuna_peppp.study import error_matrix_from_studies, predict

_MODULES: Final = {
    "ConfigurationSpace": "space",
    "ErrorMatrix": "matrix",
    "FloatFormat": "formats",
    "MetaModel": "meta",
    "PEPPPSampler": "sampler",
    "Precision": "formats",
    "Prediction": "prediction",
    "Recommendation": "prediction",
    "build_model": "lowprecision",
    "error_matrix_from_studies": "study",
    "load_corpus": "matrix",
    "memory_vector": "lowprecision",
    "predict": "study",
    "quantize": "lowprecision",
    "train": "lowprecision",
    "training_memory": "lowprecision",
}

__all__ = [
    "ConfigurationSpace",
    "ErrorMatrix",
    "FloatFormat",
    "MetaModel",
    "PEPPPSampler",
    "Precision",
    "Prediction",
    "Recommendation",
    "build_model",
    "error_matrix_from_studies",
    "load_corpus",
    "memory_vector",
    "predict",
    "quantize",
    "train",
    "training_memory",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
