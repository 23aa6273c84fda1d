"""Trainings: batches, steps, the loop, and the named experiment."""
