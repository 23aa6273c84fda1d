"""Every sampler on the same tasks, seeds and budgets: ``python -m benchmarks.samplers.compare``."""
