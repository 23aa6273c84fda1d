from __future__ import annotations

from pathlib import Path

import pytest
import torch

from optuna_peppp.lowprecision.training.devices import provenance


def test_a_processor_has_a_name() -> None:
    told = provenance("cpu")
    assert told["torch"] == torch.__version__
    assert type(told["torch"]) is str  # as storages keep it
    info = Path("/proc/cpuinfo")
    if info.exists() and "model name" in info.read_text():
        assert f": {told['device']}\n" in info.read_text()
    assert told["device"]


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="device must be"):
        provenance("abacus")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_has_a_name() -> None:
    assert provenance("cuda")["device"] == torch.cuda.get_device_name(0)
