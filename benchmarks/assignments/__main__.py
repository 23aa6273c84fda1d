"""Precision assignments: facts that follow from shapes alone.

``--anchors`` compares with numbers of Lee et al. (TMLR 2023), without training anything.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.assignments.anchors import anchors


def main() -> int:
    """Runs what is asked for; 1 where an anchor does not hold."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.assignments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--anchors", action="store_true", required=True)
    parser.parse_args()
    every = list(anchors())
    for anchor in every:
        sign = "=" if anchor.expected == anchor.found else "is not"
        print(f"{anchor.name:<34} {anchor.expected} {sign} {anchor.found}")
    held = sum(anchor.expected == anchor.found for anchor in every)
    print(f"anchors: {held} of {len(every)}")
    return 0 if held == len(every) else 1


if __name__ == "__main__":
    sys.exit(main())
