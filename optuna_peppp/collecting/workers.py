"""Measuring a corpus: many configurations on many data sets, through an Optuna storage."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Final

from optuna_peppp.collecting.claims import Claim
from optuna_peppp.collecting.planning import Measurement, Plan, by_study
from optuna_peppp.collecting.progress import Progress
from optuna_peppp.collecting.tasks import Task, start
from optuna_peppp.processes import worker_pool
from optuna_peppp.studies.patience import Pace


def collect(
    measurements: Sequence[Measurement],
    storage: str,
    *,
    jobs: int = 1,
    threads: int | None = None,
    pace: Pace | None = None,
) -> int:
    """Measures what a storage does not hold yet, beside any others that do the same.

    Every task, a network with a data set, is a study, and every measurement a trial with the
    values (error, memory in bytes): the storage is the corpus. Several calls, on one machine or
    many, share the work and return when all of it is done. What is finished is in the storage at
    once, so that an interruption loses only what is running, and calling again goes on from
    there. Progress is shown on standard error.

    Args:
        measurements: The plan.
        storage: As for :func:`~optuna_peppp.studies.storage.open_storage`; made where there is
            none.
        jobs: Processes.
        threads: To train with on the CPU, in every process; by default, one process has as many as
            torch finds right, and several share the machine's cores.
        pace: How long is waited, for what; by default :class:`Pace`.

    Returns:
        How many measurements this call made.

    Raises:
        ValueError: The plan holds a measurement twice, or two data sets of one name; the storage
            cannot be used, or holds measurements of the same tasks with other settings.
        StorageError: The storage fails, for longer than is waited.
        ChildProcessError: One of the processes was killed.
        KeyboardInterrupt: Ctrl-C, once what was running is free for others.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1; got {jobs}")
    plan = by_study(measurements)
    worker = secrets.token_hex(8)
    pace = pace or Pace()
    tasks = start(plan, storage, worker, pace)
    try:
        with Progress(tasks, worker) as progress:
            jobs = min(jobs, progress.left)
            if jobs > 1:
                return _work_in_processes(jobs, threads, (plan, storage, worker, pace), progress)
            from optuna_peppp.lowprecision.training.devices import use_threads

            use_threads(threads)
            made = 0
            for new in _work(tasks, pace):
                made += new
                progress.look()
            return made
    except BaseException:
        # Who cannot reach the storage any more counts as dead after a while.
        with suppress(Exception):
            for task in tasks:
                task.claims.abandon()
        raise


def _work(tasks: Sequence[Task], pace: Pace) -> Iterator[bool]:
    """Measures what is free until everything is made.

    Yields:
        Whether a measurement was made, which is not so after waiting for those of others.
    """
    from optuna_peppp.lowprecision.training.devices import provenance

    remaining = list(tasks)
    copies = {task: task.copies for task in tasks}
    while remaining:
        # From the first on: what a worker that died left behind comes first, too.
        for task in tuple(remaining):
            device = next(iter(task.planned.values())).experiment.device
            claim = task.claims.take(task.planned, provenance(device), copies[task])
            if claim is not None:
                yield _measure(task, claim)
                break
            if task.planned.keys() <= task.claims.held().complete.keys():
                remaining.remove(task)
                for measurement in task.planned.values():
                    measurement.experiment.release()
        else:
            if remaining:
                pace.sleep(pace.poll)
                yield False


_COPIED: Final = ("diverged", "seconds", "device", "torch", "low_ratio", "promoted")
"""What is told of a measurement that is told of its copies, too."""


def _measure(task: Task, claim: Claim) -> bool:
    """Whether the measurement counts; that of a training that was made is a copy."""
    measurement = task.planned[claim.key]
    if claim.made is not None:
        params = " / ".join(map(str, claim.made.params.values()))
        made = claim.made.user_attrs
        told = {name: made[name] for name in _COPIED if name in made} | {"same_as": params}
        return task.claims.complete(claim, (claim.made.values[0], float(measurement.memory)), told)
    before = time.perf_counter()
    with task.claims.alive(claim):
        result = measurement.experiment.measure(measurement.params)
    told = {"diverged": result.diverged, "seconds": time.perf_counter() - before}
    if result.low_ratio is not None:
        told |= {"low_ratio": result.low_ratio, "promoted": len(result.promoted)}
    return task.claims.complete(claim, (result.error, float(measurement.memory)), told)


_Assignment = tuple[Plan, str, str, Pace]
"""Plan, storage, worker and pace."""

_assignment: _Assignment
"""What this process is to do, where it is one of several."""


def _assign(*assignment: *_Assignment) -> None:
    global _assignment
    _assignment = assignment


def _work_off() -> int:
    """How many measurements this process made."""
    return sum(_work(start(*_assignment), _assignment[-1]))


def _work_in_processes(
    jobs: int, threads: int | None, assignment: _Assignment, progress: Progress
) -> int:
    with worker_pool(jobs, _assign, *assignment, threads=threads) as pool:
        pending = {pool.submit(_work_off) for _ in range(jobs)}
        made = 0
        while pending:
            done, pending = wait(pending, assignment[-1].poll, FIRST_EXCEPTION)
            try:
                made += sum(future.result() for future in done)
            except BrokenProcessPool as problem:
                raise ChildProcessError(
                    "a process that measured was killed, by the system if memory ran out; what "
                    "was measured is kept: run the same command again to go on"
                ) from problem
            progress.look()
    return made
