"""Memory of a training, computed from its network and never measured."""

from optuna_peppp.lowprecision.memory.accounting import (
    MemoryUsage,
    memory_vector,
    training_memory,
)

__all__ = ["MemoryUsage", "memory_vector", "training_memory"]
