"""Fixtures of the tests of low-precision training."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend


@pytest.fixture(scope="session")
def qtorch() -> ModuleType:
    """QPyTorch, the reference; the first import on a machine compiles C++ for most of a minute."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # ninja lies beside the interpreter, also where its environment is not activated.
        scripts = str(Path(sys.executable).parent)
        patch.setenv("PATH", os.pathsep.join([scripts, os.environ["PATH"]]))
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("qtorch.quant")
            importlib.import_module("qtorch.optim")
        except Exception as error:  # a failed build raises what the compiler's wrapper raises
            pytest.skip(f"QPyTorch cannot be imported here: {error}")
        return importlib.import_module("qtorch")


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounterWithBackend]:
    """The graph of the step as it was traced, run by torch itself; counts the graphs."""
    step = importlib.import_module("optuna_peppp.lowprecision.training.compiled_step")
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(step._training_step, dynamic=False, fullgraph=True, backend=counter)
    monkeypatch.setattr(step, "_compiled", lambda: compiled)
    torch._dynamo.reset()
    yield counter
    torch._dynamo.reset()
