"""What a measurement is made on."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

import torch

from optuna_peppp.lowprecision.training import resolve_device


def provenance(device: str) -> dict[str, str]:
    """The name of a device, such as ``NVIDIA H200`` or the processor's, and torch's version.

    Raises:
        ValueError: This machine does not have the device.
    """
    resolved = resolve_device(device)
    if resolved.type == "cuda":
        name = torch.cuda.get_device_name(resolved)
    else:
        name = _processor() if resolved.type == "cpu" else str(resolved)
    return {"device": name, "torch": str(torch.__version__)}


@functools.cache
def _processor() -> str:
    """The model name of the processor, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
