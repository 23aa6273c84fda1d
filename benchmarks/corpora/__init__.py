"""Corpora: measured, measured again, described."""
