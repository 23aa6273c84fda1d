"""Low-precision training simulated in PyTorch: the one part of the package that imports torch."""

from optuna_peppp.lowprecision.datasets import ImageData, load_dataset
from optuna_peppp.lowprecision.experiment import Experiment
from optuna_peppp.lowprecision.memory import MemoryUsage, memory_vector, training_memory
from optuna_peppp.lowprecision.models import build_model
from optuna_peppp.lowprecision.modules import LowPrecisionModule
from optuna_peppp.lowprecision.optimizer import LowPrecisionOptimizer
from optuna_peppp.lowprecision.quantize import quantize
from optuna_peppp.lowprecision.scheme import Quantizer, RoundingScheme
from optuna_peppp.lowprecision.training import TrainingResult, train

__all__ = [
    "Experiment",
    "ImageData",
    "LowPrecisionModule",
    "LowPrecisionOptimizer",
    "MemoryUsage",
    "Quantizer",
    "RoundingScheme",
    "TrainingResult",
    "build_model",
    "load_dataset",
    "memory_vector",
    "quantize",
    "train",
    "training_memory",
]
