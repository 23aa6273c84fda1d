"""Times, beside rivals that give the same answers: ``python -m benchmarks.speed.ask``."""
