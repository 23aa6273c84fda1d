"""What a measurement is made on."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

import torch


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


def resolve_device(device: torch.device | str) -> torch.device:
    """The device of a name such as ``"cpu"`` or ``"cuda:1"``; ``"auto"`` prefers CUDA.

    Raises:
        ValueError: This machine has no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # what torch raises depends on its build
        reason = str(error).splitlines()[0]
        raise ValueError(
            "device must be 'auto' or one of this machine, such as 'cpu' or 'cuda'; got "
            f"{str(device)!r} ({reason})"
        ) from error


def use_threads(count: int | None) -> None:
    """Trains with so many threads from here on, or with fewer where torch finds that too many.

    None leaves them as they are.
    """
    if count is not None:
        torch.set_num_threads(min(count, torch.get_num_threads()))
