"""Data sets of images to classify, and texts whose next bytes are told, read by name."""

from optuna_peppp.lowprecision.datasets.loading import ImageData, load_dataset
from optuna_peppp.lowprecision.datasets.text import TextData, load_text

__all__ = ["ImageData", "TextData", "load_dataset", "load_text"]
