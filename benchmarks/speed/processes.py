"""Processes to measure in, and what PyTorch does there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path

import torch


@contextmanager
def process(threads: int, cache: str) -> Iterator[Pool]:
    """A process with so many threads, which keeps compiled kernels in a folder."""
    os.environ |= {"OMP_NUM_THREADS": str(threads), "TORCHINDUCTOR_CACHE_DIR": cache}
    with get_context("spawn").Pool(1) as pool:
        yield pool


def find_ninja() -> None:
    """Lets processes find what QPyTorch is built with: it lies beside the interpreter."""
    scripts = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([scripts, os.environ["PATH"]])


def synchronize(device: torch.device) -> None:
    """Waits for what was started; on a CPU nothing is pending."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def graphs() -> int:
    """How many graphs this process has compiled so far."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
