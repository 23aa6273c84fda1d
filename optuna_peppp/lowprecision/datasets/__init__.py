"""Image classification data sets, read by name."""

from optuna_peppp.lowprecision.datasets.loading import ImageData, load_dataset

__all__ = ["ImageData", "load_dataset"]
