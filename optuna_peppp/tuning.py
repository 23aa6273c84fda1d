"""Tuning the precision of a named experiment: a study that explains itself and can be resumed."""

from __future__ import annotations
