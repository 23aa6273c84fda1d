"""What our strategies gain over the paper's: ``python -m benchmarks.rules.against_paper``."""
