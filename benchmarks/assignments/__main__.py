"""Precision assignments: facts that follow from shapes alone, and the cost of a compiled step.

``--anchors`` compares with numbers of Lee et al. (TMLR 2023), without training anything;
``--graphs`` trains a little by ten assignments and counts the compiler's graphs.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.assignments.anchors import anchors
from benchmarks.assignments.graphs import graphs, step_ratio


def run() -> int:
    """Runs what is asked for; 1 where an anchor does not hold, or there are several graphs."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.assignments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--anchors", action="store_true")
    what.add_argument("--graphs", action="store_true")
    if parser.parse_args().graphs:
        count = graphs()
        print(f"step by an assignment / step in one format: {step_ratio():.2f}")
        print(f"graphs: {count}")
        return 0 if count == 1 else 1
    every = list(anchors())
    for anchor in every:
        sign = "=" if anchor.expected == anchor.found else "is not"
        print(f"{anchor.name:<34} {anchor.expected} {sign} {anchor.found}")
    held = sum(anchor.expected == anchor.found for anchor in every)
    print(f"anchors: {held} of {len(every)}")
    return 0 if held == len(every) else 1


if __name__ == "__main__":
    sys.exit(run())
