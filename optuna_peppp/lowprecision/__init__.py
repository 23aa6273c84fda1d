"""Low-precision training simulated in PyTorch: the one part of the package that imports torch."""

from optuna_peppp.lowprecision.datasets.loading import ImageData, load_dataset
from optuna_peppp.lowprecision.datasets.text import TextData, load_text
from optuna_peppp.lowprecision.memory.accounting import training_memory
from optuna_peppp.lowprecision.memory.spaces import memory_vector
from optuna_peppp.lowprecision.memory.usage import MemoryUsage
from optuna_peppp.lowprecision.networks import build_model
from optuna_peppp.lowprecision.rounding.quantize import quantize
from optuna_peppp.lowprecision.rounding.scheme import Quantizer, RoundingScheme
from optuna_peppp.lowprecision.simulation.groups import groups
from optuna_peppp.lowprecision.simulation.modules import LowPrecisionModule
from optuna_peppp.lowprecision.simulation.optimizer import LowPrecisionOptimizer
from optuna_peppp.lowprecision.simulation.saving import packed_saved_tensors
from optuna_peppp.lowprecision.training.experiment import Experiment
from optuna_peppp.lowprecision.training.loop import TrainingResult, train
from optuna_peppp.lowprecision.training.own_loop import low_precision, training_step
from optuna_peppp.lowprecision.training.sensitivity import sensitivities, sensitivity_order

__all__ = [
    "Experiment",
    "ImageData",
    "LowPrecisionModule",
    "LowPrecisionOptimizer",
    "MemoryUsage",
    "Quantizer",
    "RoundingScheme",
    "TextData",
    "TrainingResult",
    "build_model",
    "groups",
    "load_dataset",
    "load_text",
    "low_precision",
    "memory_vector",
    "packed_saved_tensors",
    "quantize",
    "sensitivities",
    "sensitivity_order",
    "train",
    "training_memory",
    "training_step",
]
