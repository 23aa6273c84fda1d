"""A corpus in Optuna: who measures what, exactly once."""
