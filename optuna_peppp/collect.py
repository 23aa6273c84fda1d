"""Measuring a corpus: many configurations on many data sets, through an Optuna storage."""

from __future__ import annotations

import csv
import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tqdm import tqdm

from optuna_peppp.archive import replacing
from optuna_peppp.claims import Claim
from optuna_peppp.planning import Measurement, Plan, by_study
from optuna_peppp.processes import worker_pool
from optuna_peppp.tasks import Task, load, start

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

COLUMNS: Final = (
    "task",
    "model",
    "format_a",
    "format_b",
    "learning_rate",
    "error",
    "memory",
    "seed",
    "epochs",
    "rounding",
    "batch_size",
    "image_size",
    "momentum",
    "weight_decay",
    "diverged",
    "seconds",
    "device",
    "torch",
)
"""The columns of an exported corpus: the corpus format, then how each row was measured."""

POLL: Final = 2.0
"""Seconds between two looks at what others measure."""


def collect(measurements: Sequence[Measurement], storage: str, *, jobs: int = 1) -> int:
    """Measures what a storage does not hold yet, beside any others that do the same.

    Every task, a network with a data set, is a study, and every measurement a trial with the
    values (error, memory in bytes): the storage is the corpus. Several calls, on one machine or
    many, share the work and return when all of it is done. What is finished is in the storage at
    once, so that an interruption loses only what is running, and calling again goes on from
    there. Progress is shown on standard error.

    Args:
        measurements: The plan.
        storage: A database URL, or the path of a journal file; made where there is none.
        jobs: Processes; the machine's cores are shared between them.

    Returns:
        How many measurements this call made.

    Raises:
        ValueError: The plan holds a measurement twice, or two data sets of one name; the storage
            cannot be used, or holds measurements of the same tasks with other settings.
        ChildProcessError: One of the processes was killed.
        KeyboardInterrupt: Ctrl-C, once what was running is free for others.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1; got {jobs}")
    plan = by_study(measurements)
    worker = secrets.token_hex(8)
    tasks = start(plan, storage, worker)
    try:
        with _Progress(tasks, worker) as progress:
            jobs = min(jobs, progress.left)
            if jobs > 1:
                return _work_in_processes(jobs, (plan, storage, worker), progress)
            made = 0
            for new in _work(tasks):
                made += new
                progress.look()
            return made
    except BaseException:
        # Who cannot reach the storage any more counts as dead after a while.
        with suppress(Exception):
            for task in tasks:
                task.claims.abandon()
        raise


def export(measurements: Sequence[Measurement], storage: str, path: Path) -> int:
    """Writes what a storage holds of the studies of a plan as a corpus CSV.

    All their measurements count, whether the plan holds them or not. The file appears whole or
    not at all; where nothing is measured, there is none.

    Args:
        measurements: The plan.
        storage: As for :func:`collect`.
        path: The file.

    Returns:
        How many rows it has.

    Raises:
        ValueError: As for :func:`collect`, or there is no such storage.
    """
    rows = []
    for task in load(by_study(measurements), storage):
        held = task.claims.held().complete
        rows += [_row(task.settings, held[key]) for key in sorted(held)]
    if rows:
        with (
            replacing(path) as temporary,
            temporary.open("x", encoding="utf-8", newline="") as file,
        ):
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return len(rows)


def _row(settings: dict[str, Any], trial: FrozenTrial) -> dict[str, Any]:
    """A completed trial in the columns of a corpus."""
    error, memory = trial.values
    told = trial.user_attrs
    return {
        **settings,
        **trial.params,
        **told,
        "task": settings["data"],
        "model": settings["network"],
        "error": f"{error:.6g}",
        "memory": int(memory),
        "diverged": int(told["diverged"]),
        "seconds": f"{told['seconds']:.2f}",
    }


def _work(tasks: Sequence[Task]) -> Iterator[bool]:
    """Measures what is free until everything is made.

    Yields:
        Whether a measurement was made, which is not so after waiting for those of others.
    """
    from optuna_peppp.lowprecision.hardware import provenance

    remaining = list(tasks)
    while remaining:
        # From the first on: what a worker that died left behind comes first, too.
        for task in tuple(remaining):
            device = next(iter(task.planned.values())).experiment.device
            claim = task.claims.take(task.planned, provenance(device))
            if claim is not None:
                yield _measure(task, claim)
                break
            if task.planned.keys() <= task.claims.held().complete.keys():
                remaining.remove(task)
                for measurement in task.planned.values():
                    measurement.experiment.release()
        else:
            if remaining:
                time.sleep(POLL)
                yield False


def _measure(task: Task, claim: Claim) -> bool:
    """Whether the measurement counts."""
    measurement = task.planned[claim.key]
    before = time.perf_counter()
    with task.claims.alive(claim):
        result = measurement.experiment.measure(measurement.params)
    told = {"diverged": result.diverged, "seconds": time.perf_counter() - before}
    return task.claims.complete(claim, (result.error, float(measurement.memory)), told)


_assignment: tuple[Plan, str, str]
"""Plan, storage and worker of this process, where it is one of several."""


def _assign(*assignment: Any) -> None:
    global _assignment
    _assignment = assignment


def _work_off() -> int:
    """How many measurements this process made."""
    return sum(_work(start(*_assignment)))


def _work_in_processes(jobs: int, assignment: tuple[Plan, str, str], progress: _Progress) -> int:
    with worker_pool(jobs, _assign, *assignment) as pool:
        pending = {pool.submit(_work_off) for _ in range(jobs)}
        made = 0
        while pending:
            done, pending = wait(pending, POLL, FIRST_EXCEPTION)
            try:
                made += sum(future.result() for future in done)
            except BrokenProcessPool as problem:
                raise ChildProcessError(
                    "a process that measured was killed, by the system if memory ran out; what "
                    "was measured is kept: run the same command again to go on"
                ) from problem
            progress.look()
    return made


class _Progress:
    """A bar over the plan that counts what the storage holds, whoever measured it.

    Args:
        tasks: The studies of the plan.
        worker: Who we are.
    """

    def __init__(self, tasks: Sequence[Task], worker: str) -> None:
        self._worker = worker
        self._missing = {task: set(task.planned) for task in tasks}
        self._due = 0.0
        total = self.left
        self._read()
        # Without smoothing the time left follows from the rate of the whole run.
        self._bar = tqdm(total=total, initial=total - self.left, unit="run", smoothing=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._show()
        self._bar.close()

    @property
    def left(self) -> int:
        """How many measurements of the plan were missing at the last look."""
        return sum(map(len, self._missing.values()))

    def look(self) -> None:
        """Shows how far the storage is, unless looking would take more than a few percent."""
        start = time.monotonic()
        if start >= self._due:
            self._show()
            now = time.monotonic()
            self._due = now + 30 * (now - start)

    def _show(self) -> None:
        before = self.left
        text = self._read()
        if text:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.n += before - self.left
            self._bar.refresh()

    def _read(self) -> str:
        """Takes off what is made by now.

        Returns:
            The last result, or what is waited for where there is nothing else to do.
        """
        last, free, elsewhere = None, 0, 0
        for task, missing in self._missing.items():
            if not missing:
                continue
            held = task.claims.held()
            for key, trial in held.complete.items():
                if key in missing:
                    missing.remove(key)
                    last = trial
            running = [held.running[key] for key in missing & held.running.keys()]
            free += len(missing) - len(running)
            elsewhere += sum(trial.user_attrs.get("worker") != self._worker for trial in running)
        if last is not None:
            return f"{' / '.join(map(str, last.params.values()))}: error {last.values[0]:.4g}"
        if elsewhere and not free:
            return f"waiting for {elsewhere} of other workers, a minute should they be dead"
        return ""
