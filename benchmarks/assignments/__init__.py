"""Precision assignments: which tensors of a training have which of two formats."""
