"""`tune` on a server: exactly so many, one conclusion, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.servers.commands import Command
from tests.servers.workers import Worker


def conclusion(path: Path) -> Any:
    """All predictions and the recommendation."""
    return json.loads(path.read_text())


def test_two_workers_make_so_many_together(
    tune: Command, start: Callable[..., Worker], tmp_path: Path
) -> None:
    files = [tmp_path / f"{number}.json" for number in range(4)]
    workers = [tune.start("--json", file) for file in files[:2]]
    tune.check(workers, [0, 0])
    again = tune.start("--json", files[2])
    tune.check([*workers, again], [0, 0, 0])
    recommend = start("recommend", "--storage", tune.place.url, "--json", files[3])
    assert recommend.wait() == 0, recommend.said()
    # Whoever ends first waits for the others, and all come to the same end.
    first, *others = map(conclusion, files)
    assert all(other == first for other in others)


def test_what_was_tuned_is_learned_from(
    tune: Command, start: Callable[..., Worker], corpus: Path, tmp_path: Path
) -> None:
    tuning = tune.start("--trials", 2)
    assert tuning.wait() == 0, tuning.said()
    sources = ["--storage", tune.place.url, "--corpus", corpus]
    fit = start("fit", *sources, "--rank", 1, "--output", tmp_path / "learned.npz")
    assert fit.wait() == 0, fit.said()
    assert "Learned from 5 tasks" in fit.said()
