"""Times side by side: all take turns, so that a busy machine hits all alike."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    import torch

Name = TypeVar("Name")
Result = TypeVar("Result")

THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Read by numpy and torch when they are imported."""


def take_turns(
    contestants: Mapping[Name, Callable[[], Result]],
    turns: int,
    *,
    seed: int,
    limit: float = float("inf"),
    least: int = 0,
) -> dict[Name, list[Result]]:
    """What everybody's call gives in every turn; the order within a turn is random.

    Args:
        contestants: Calls by name.
        turns: How many, at most.
        seed: Of the orders.
        limit: Seconds after which no turn begins.
        least: Turns that are taken in any case.
    """
    found: dict[Name, list[Result]] = {name: [] for name in contestants}
    order, shuffler, begin = list(contestants), random.Random(seed), time.perf_counter()
    for turn in range(turns):
        if turn >= least and time.perf_counter() - begin > limit:
            break
        shuffler.shuffle(order)
        for name in order:
            found[name].append(contestants[name]())
    return found


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median over turns of the ratio within a turn.

    >>> ratio([2.0, 30.0, 4.0], [1.0, 10.0, 2.0])
    2.0
    """
    return median(a / b for a, b in zip(above, below, strict=True))


@contextmanager
def process(threads: int = 1, cache: str | None = None) -> Iterator[Pool]:
    """A process with so many threads, which keeps compiled kernels in a folder."""
    os.environ |= dict.fromkeys(THREADS, str(threads))
    if cache is not None:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
    with get_context("spawn").Pool(1) as pool:
        yield pool


def find_ninja() -> None:
    """Lets processes find what QPyTorch is built with: it lies beside the interpreter."""
    scripts = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([scripts, os.environ["PATH"]])


def synchronize(device: torch.device) -> None:
    """Waits for what was started; on a CPU nothing is pending."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def graphs() -> int:
    """How many graphs this process has compiled so far."""
    import torch

    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
