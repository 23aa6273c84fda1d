from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from optuna_peppp.processes import worker_pool

PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")

_given: tuple[object, ...] = ()


def set_up(*arguments: object) -> None:
    global _given
    _given = arguments


def given() -> tuple[object, ...]:
    return _given


def threads() -> str:
    return os.environ["OMP_NUM_THREADS"]


def interrupt_itself() -> str:
    os.kill(os.getpid(), signal.SIGINT)
    return "still here"


def sleep(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_pid(path: Path) -> int:
    deadline = time.monotonic() + 120
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(path.read_text())


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/stat")
        try:
            if status.read_text().rpartition(")")[2].split()[0] == "Z":  # nobody asks for it
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_workers_are_set_up_share_the_cores_and_leave_ctrl_c_to_the_parent() -> None:
    large = "x" * 1_000_000
    with worker_pool(2, set_up, large, 7) as pool:
        assert pool.submit(given).result() == (large, 7)
        assert pool.submit(threads).result() == str(max(1, (os.cpu_count() or 1) // 2))
        assert pool.submit(interrupt_itself).result() == "still here"
    assert given() == ()
    with worker_pool(1, threads=3) as pool:
        assert pool.submit(threads).result() == "3"


@PROC
def test_workers_end_with_the_block_that_fails(tmp_path: Path) -> None:
    def interrupted() -> None:
        with worker_pool(1) as pool:
            pool.submit(sleep, str(tmp_path / "pid"))
            wait_for_pid(tmp_path / "pid")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert is_gone(wait_for_pid(tmp_path / "pid"))


def test_a_worker_that_is_killed_breaks_the_pool() -> None:
    with pytest.raises(BrokenProcessPool), worker_pool(1) as pool:
        pool.submit(kill_itself).result()


@PROC
def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from optuna_peppp.processes import worker_pool\n"
        "def sleep(path):\n"
        "    Path(path).write_text(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    with worker_pool(1) as pool:\n"
        "        pool.submit(sleep, sys.argv[1]).result()\n"
    )
    with subprocess.Popen([sys.executable, str(script), str(tmp_path / "pid")]) as parent:
        worker = wait_for_pid(tmp_path / "pid")
        parent.kill()
    assert is_gone(worker)
