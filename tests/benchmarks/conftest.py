"""Tests of the benchmark scripts, which need their extra."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib", reason="needs the extra benchmarks")
