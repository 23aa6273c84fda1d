"""Predictions, corpora and meta-models as text and as a page."""
