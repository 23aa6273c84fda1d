"""`collect` on a server: exactly once, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.servers.commands import Command
from tests.servers.workers import Worker


def test_two_workers_share_a_corpus(collect: Command) -> None:
    workers = [collect.start() for _ in range(2)]  # at once: both make the storage
    collect.check(workers, [0, 0])
    assert all(worker.trainings() for worker in workers)
    collect.check([*workers, collect.start()], [0, 0, 0])


def test_what_was_collected_is_learned_from(
    collect: Command, start: Callable[..., Worker], tmp_path: Path
) -> None:
    exported = tmp_path / "corpus.csv"
    collecting = collect.start("--export", exported)
    assert collecting.wait() == 0, collecting.said()
    assert len(exported.read_text().splitlines()) == 1 + collect.count
    sources = ["--storage", collect.place.url, "--corpus", "plain3-cifar100"]
    fit = start("fit", *sources, "--rank", 1, "--output", tmp_path / "learned.npz")
    assert fit.wait() == 0, fit.said()
    assert "Learned from 21 tasks" in fit.said()
