"""How many threads fit the machine: its cores, the share of them that is ours, and who else works.

Threads of one training wait for one another at every step. Where others keep the cores busy, two
threads are slower than one.
"""

from __future__ import annotations

import os
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def chosen_threads(asked: int | None, processes: int = 1) -> int | None:
    """Threads of each of some processes that train side by side.

    Args:
        asked: Those that somebody asked for, of each; by default what OMP_NUM_THREADS says, else
            as many as find an idle core, shared between the processes.
        processes: How many.

    Returns:
        None where OMP_NUM_THREADS says it.
    """
    if asked is not None or "OMP_NUM_THREADS" in os.environ:
        return asked
    return max(1, fitting_threads() // processes)


def fitting_threads(groups: Path = _GROUPS, load: float | None = None) -> int:
    """Threads that find a core each: of the cores that this process may use, those idle.

    Args:
        groups: Where the kernel tells the quotas of control groups.
        load: Processes that run on the machine on average; by default, as of the last minute.
    """
    cores = os.cpu_count() or 1
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    if load is None:
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, min(ours, int(_quota(groups) or ours), round(cores - load)))


def _quota(groups: Path) -> float | None:
    """Cores' worth of time that a container may use, None where it has no limit."""
    try:
        if (groups / "cpu.max").exists():
            quota, period = (groups / "cpu.max").read_text().split()
        else:
            quota, period = (
                (groups / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
            )
        return max(1.0, int(quota) / int(period)) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no such file; "max"
        return None
