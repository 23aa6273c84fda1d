"""`collect` and `tune` in two processes on one storage, whatever is killed or restarted."""

from __future__ import annotations

from functools import partial

import pytest

from tests.servers.commands import DEAD_AFTER, Command
from tests.servers.servers import Place
from tests.servers.workers import has_completed, until


@pytest.fixture(params=["collect", "tune"])
def command(request: pytest.FixtureRequest, place: Place) -> Command:
    """Each of them, on a storage of each kind."""
    found: Command = request.getfixturevalue(request.param)
    return found


def test_a_kill_loses_one_training(command: Command) -> None:
    victim, _ = workers = [command.start(dead_after=DEAD_AFTER) for _ in range(2)]
    until(lambda: victim.trainings() >= 2, *workers)
    victim.kill()
    command.check(workers, [-9, 0], repeated=1)
    again = command.start()
    command.check([*workers, again], [-9, 0, 0], repeated=1)
    assert again.trainings() == 0


def test_a_restart_of_the_server_is_waited_for(command: Command) -> None:
    workers = [command.start() for _ in range(2)]
    # Asking the server would take longer: by then they might have finished.
    until(lambda: all(worker.trainings() for worker in workers), *workers)
    command.place.server.restart(3)
    assert not has_completed(command.place.url, command.count)
    command.check(workers, [0, 0])


def test_nobody_dies_of_a_long_restart(command: Command) -> None:
    """Who could not show a sign of life for want of a server is not taken for dead."""
    workers = [command.start(dead_after=DEAD_AFTER) for _ in range(2)]
    # By then they have seen each other's trials, whose clocks run.
    until(partial(has_completed, command.place.url, 3), *workers)
    command.place.server.restart(2 * DEAD_AFTER)
    command.check(workers, [0, 0])
