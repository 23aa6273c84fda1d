"""Worker processes that share the machine and never outlive their parent."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any


@contextmanager
def worker_pool(
    jobs: int,
    set_up: Callable[..., None] | None = None,
    *arguments: Any,
    threads: int | None = None,
) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that end with this block, however it ends.

    Ctrl-C is left to the parent.

    Args:
        jobs: How many.
        set_up: Called in every worker first: what is large travels here, once, since what
            waits in a full queue would keep an interrupted program from ending.
        arguments: For ``set_up``.
        threads: Of each for numerical work; by default the machine's cores are shared.
    """
    threads = threads or max(1, (os.cpu_count() or 1) // jobs)
    pool = ProcessPoolExecutor(
        jobs,
        multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(threads, set_up, arguments),
    )
    try:
        yield pool
    except BaseException:
        # Cancelling what waits would make the pool stumble over it when its workers are gone.
        pool.shutdown(wait=False)
        workers = multiprocessing.active_children()
        for process in workers:
            process.terminate()
        for process in workers:
            process.join()
        raise
    pool.shutdown()


def _start_worker(
    threads: int, set_up: Callable[..., None] | None, arguments: tuple[Any, ...]
) -> None:
    # Read by torch when it is imported, which is when the first measurement arrives.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # Ctrl-C reaches every process of the terminal; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if set_up is not None:
        set_up(*arguments)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
