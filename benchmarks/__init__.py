"""Benchmarks: how good, how fast, and how close to the paper; run one as ``python -m``."""
