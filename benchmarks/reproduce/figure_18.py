"""Figure 18: the quality of predicted frontiers in Settings II, III, V and VI, by technique.

Computed as Figure 11 is, but at the text's rank only, where the definitions are plain.
"""

from __future__ import annotations

from collections.abc import Sequence

from anchors import Anchor
from common import is_authors, start
from comparison import AS_RUN, AS_WRITTEN, compared, draw, summaries
from settings import AUTHORS, LARGEST, PLAIN, RANKS, Outcome, chosen_rows, outcomes

SHOWN = ("II", "III", "V", "VI")


def main(argv: Sequence[str] | None = None) -> None:
    """Table, pictures, anchors."""
    script = start(__file__, __doc__, argv)
    rows = chosen_rows(script.corpus, script.quick)
    found = list(outcomes(script.corpus, SHOWN, rows, (AUTHORS, PLAIN)))
    table = summaries(found)

    script.write_table(table)
    script.write_picture(draw(table, [(name, "convergence") for name in SHOWN]))
    script.write_picture(draw(table, [(name, "hyperdiff") for name in SHOWN]), "hyperdiff")
    script.finish(anchors(found) if is_authors(script.corpus) else [], tasks=len(rows), seed=0)


def anchors(found: Sequence[Outcome]) -> list[Anchor]:
    """What the figure's caption says."""
    ways = ((AUTHORS, AS_RUN), (AUTHORS, AS_WRITTEN), (PLAIN, AS_WRITTEN))
    return [
        compared(
            found,
            way,
            name,
            rivals,
            range(RANKS[way], LARGEST + 1),
            "all measurements (Figure 18)",
            "ED-MF among the best in both metrics",
        )
        for name in SHOWN
        for way, rivals in ways
    ]


if __name__ == "__main__":
    main()
