"""Modules and optimizers that compute in low precision."""
