"""Rivals that know what our sampler knows: past tasks, memory, or both."""
