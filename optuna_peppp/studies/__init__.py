"""A task in Optuna: its sampler, trials, storage and results."""
