"""The rule of choosing beside others: ``python -m benchmarks.rules.compare``."""
