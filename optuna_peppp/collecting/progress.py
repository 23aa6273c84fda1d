"""How far a plan of measurements is, whoever makes them: a bar on standard error."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from tqdm import tqdm

if TYPE_CHECKING:
    from optuna_peppp.collecting.tasks import Task


class Progress:
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
