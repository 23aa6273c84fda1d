"""Memory of a training, computed from its network and never measured."""

from optuna_peppp.lowprecision.memory.accounting import training_memory
from optuna_peppp.lowprecision.memory.spaces import memory_vector
from optuna_peppp.lowprecision.memory.usage import MemoryUsage

__all__ = ["MemoryUsage", "memory_vector", "training_memory"]
