"""What users gain, on real trainings: ``python -m benchmarks.demonstrations.digits_truth``."""
