"""Runs every script of this folder, two at a time, and gathers their anchors.

    python benchmarks/reproduce/all.py --corpus ../shared/data/peppp/corpus.csv [--quick]

Takes what every script takes. Writes anchors.csv and anchors.md, the table of the paper's numbers
and ours, beside the scripts' results. A script that fails stops no other; it is reported at the end
and makes the exit status 1.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from anchors import markdown, read_anchors, write_anchors
from common import start
from tqdm import tqdm

WORKERS: Final = 2

SLOWEST: Final = ("figure_18", "figure_11", "figure_17", "figure_09")
"""Started first, or the last to start would run alone."""


def main(argv: Sequence[str] | None = None, folder: Path = Path(__file__).parent) -> int:
    """Runs the scripts of ``folder``; the exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    output = start(__file__, __doc__, arguments).output
    scripts = [*sorted(folder.glob("figure_*.py")), *sorted(folder.glob("appendix_*.py"))]
    slow = {name: place for place, name in enumerate(SLOWEST)}
    slowest_first = sorted(scripts, key=lambda script: slow.get(script.stem, len(slow)))
    failed: dict[Path, str] = {}
    try:
        with (
            tqdm(total=len(scripts), unit="script") as bar,
            closing(run(slowest_first, arguments)) as ends,
        ):
            for script, status, printed in ends:
                if status == 0:
                    tqdm.write(printed, end="")
                else:
                    failed[script] = printed
                    tqdm.write(f"{script.stem}: failed, see the end")
                bar.update()
    except KeyboardInterrupt:
        print("interrupted; no script is left running", file=sys.stderr)
        return 130
    paths = [output / f"{script.stem}_anchors.csv" for script in scripts if script not in failed]
    anchors = [anchor for path in paths if path.exists() for anchor in read_anchors(path)]
    if anchors:
        write_anchors(output / "anchors.csv", anchors)
        (output / "anchors.md").write_text(markdown(anchors), encoding="utf-8")
        print(markdown(anchors))
    for script, printed in failed.items():
        print(f"{script.stem} failed:\n{printed}", file=sys.stderr)
    return 1 if failed else 0


def run(scripts: Sequence[Path], arguments: list[str]) -> Generator[tuple[Path, int, str]]:
    """Every script as it ends, with its exit status and what it printed.

    Scripts that still run when the generator is closed are ended.
    """
    # Two processes on two cores: more threads would only get in each other's way.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    waiting = list(scripts)
    running: dict[Path, subprocess.Popen[bytes]] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            while waiting or running:
                while waiting and len(running) < WORKERS:
                    script = waiting.pop(0)
                    # A file, because a pipe that nobody reads fills up and stops its writer.
                    with Path(folder, script.stem).open("wb") as file:
                        running[script] = subprocess.Popen(
                            [sys.executable, str(script), *arguments],
                            stdout=file,
                            stderr=subprocess.STDOUT,
                            env=environment,
                        )
                for script in [script for script in running if running[script].poll() is not None]:
                    status = running.pop(script).returncode
                    yield script, status, Path(folder, script.stem).read_text(errors="replace")
                time.sleep(0.05)
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait()


if __name__ == "__main__":
    sys.exit(main())
