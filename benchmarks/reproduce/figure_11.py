"""Figure 11: the quality of predicted frontiers in Settings I and IV, by technique.

As the authors computed it, with the Bayesian optimization of their runs and with that of their
text, and by the plain definitions; see settings.py. Figure 18 shows the other settings.
"""

from __future__ import annotations

from collections.abc import Sequence

from anchors import Anchor
from common import is_authors, start
from comparison import AS_RUN, AS_WRITTEN, METRICS, caught_up, compared, draw, few, summaries
from settings import AUTHORS, RANKS, Outcome, chosen_rows, outcomes

SHOWN = ("I", "IV")


def main(argv: Sequence[str] | None = None) -> None:
    """Table, picture, anchors."""
    script = start(__file__, __doc__, argv)
    rows = chosen_rows(script.corpus, script.quick)
    found = list(outcomes(script.corpus, SHOWN, rows))
    table = summaries(found)

    script.write_table(table)
    script.write_picture(draw(table, [(name, metric) for name in SHOWN for metric in METRICS]))
    script.finish(anchors(found) if is_authors(script.corpus) else [], tasks=len(rows), seed=0)


def anchors(found: Sequence[Outcome]) -> list[Anchor]:
    """What Section 4.2 reads off the figure."""
    ways = ((AUTHORS, AS_RUN), *((convention, AS_WRITTEN) for convention in RANKS))
    best, paper = "few measurements (Figure 11)", "ED-MF at least as good as the others"
    later, match = "more measurements (Figure 11)", "the others often match ED-MF"
    return [
        anchor
        for name in SHOWN
        for anchor in (
            *(compared(found, way, name, rivals, few(way), best, paper) for way, rivals in ways),
            *(caught_up(found, way, name, rivals, later, match) for way, rivals in ways[:2]),
        )
    ]


if __name__ == "__main__":
    main()
