"""Pick the perfect precision: an Optuna sampler for low-precision training."""
