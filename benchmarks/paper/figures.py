"""Every result of the paper that its authors' matrices allow, two at a time.

    python -m benchmarks.paper.figures [--corpus FILE.csv] [--only figure_01 ...] [--quick]

The corpus is ../shared/data/peppp/corpus.csv by default. Figures go into results/reproduce/ and the
corpus's name; so do anchors.csv and anchors.md, the table of the paper's numbers and ours, unless
--only chooses some. A figure that fails stops no other; it is reported at the end and makes the
exit status 1.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from tqdm import tqdm

from benchmarks.harness import tasks
from benchmarks.harness.script import Results
from benchmarks.harness.script import parser as script_parser
from benchmarks.paper import capped, designs, frontiers, matrix, meta_test, meta_training, selection
from benchmarks.paper.anchors import Anchor, markdown, write_anchors
from benchmarks.paper.script import Script, add_arguments, start

FIGURES: Final[dict[str, Callable[[Script], list[Anchor]]]] = {
    function.__name__: function
    for function in (
        *(frontiers.figure_01, matrix.figure_06, capped.figure_07, meta_training.figure_09),
        *(meta_training.figure_10, meta_test.figure_11, selection.figure_12, designs.figure_13),
        *(matrix.figure_14, matrix.figure_15, matrix.figure_16, meta_training.figure_17),
        *(meta_test.figure_18, frontiers.figure_20, matrix.figure_21, meta_training.figure_22),
        *(meta_training.figure_23, meta_test.figure_24, frontiers.appendix_d),
    )
}
TUNED: Final = ("figure_20", "figure_21", "figure_22", "figure_23", "figure_24")
"""Of the learning-rate-tuned matrix."""

SLOWEST: Final = ("figure_18", "figure_11", "figure_17", "figure_09")
"""Started first, or the last to start would run alone."""


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the figures; the exit status."""
    parser = script_parser(__doc__, "three tasks, few samples")
    add_arguments(parser)
    parser.set_defaults(jobs=2)
    parser.add_argument("--only", nargs="+", choices=FIGURES, metavar="FIGURE", help="of the paper")
    options = parser.parse_args(argv)
    script = start(parser, options)
    names = list(options.only or FIGURES)
    if script.joint is None:
        for name in [name for name in names if name in TUNED]:
            print(f"{name}: no learning-rate-tuned corpus (--lr-corpus), nothing written")
            names.remove(name)
    names.sort(key=lambda name: SLOWEST.index(name) if name in SLOWEST else len(SLOWEST))
    found: dict[str, list[Anchor]] = {}
    failed: dict[str, str] = {}
    try:
        for name, outcome in tasks.each(partial(make, script), names, options.jobs, "figure"):
            if isinstance(outcome, str):
                failed[name] = outcome
            else:
                found[name] = outcome
                tqdm.write(f"{name}: {len(outcome)} anchors" if outcome else f"{name}: done")
                for a in outcome:
                    tqdm.write(f"  {a.verdict}: {a.result}: paper {a.paper}, ours {a.ours}")
    except KeyboardInterrupt:
        print("interrupted; no figure is left running", file=sys.stderr)
        return 130
    anchors = [anchor for name in FIGURES for anchor in found.get(name, ())]
    if anchors and not options.only:
        folder = script.results.folder
        write_anchors(folder / "anchors.csv", anchors)
        (folder / "anchors.md").write_text(markdown(anchors), encoding="utf-8")
        print(markdown(anchors))
    for name, problem in failed.items():
        print(f"{name} failed:\n{problem}", file=sys.stderr)
    return 1 if failed else 0


def make(script: Script, name: str) -> list[Anchor] | str:
    """One figure's anchors, or why it failed."""
    try:
        return FIGURES[name](replace(script, results=Results(script.results.folder, name)))
    except Exception:
        return traceback.format_exc()


if __name__ == "__main__":
    sys.exit(main())
