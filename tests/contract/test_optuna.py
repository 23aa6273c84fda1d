"""Optuna's own contract for samplers, 126 tests, with every strategy."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)

from optuna_peppp.choices import Strategy
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.studies.sampler import PEPPPSampler

SPACE = ConfigurationSpace({"format_a": ["1-3-1", "1-4-1"], "format_b": ["1-6-7"]})
MEMORY = np.array([1e6, 2e6])
ERRORS = np.array([[0.4, 0.3], [0.6, 0.2]])
META = MetaModel.fit(ErrorMatrix(SPACE, ("a", "b"), ERRORS, np.tile(MEMORY, (2, 1))))


class TestPEPPPSampler(
    BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase
):
    @pytest.fixture(params=get_args(Strategy))
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return lambda: PEPPPSampler(META, MEMORY, strategy=request.param, seed=0)
