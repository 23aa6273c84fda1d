"""Figure 24: the quality of predicted frontiers on the learning-rate-tuned matrix, by technique.

As the paper has it, pairs of a task and a learning rate are rows (Table 5), in Settings I and IV,
computed as Figure 11 is: when one is left out, the same task at other learning rates stays. And as
the package has it, tasks x joint configurations, partially observed: a task is left out as a whole,
and its learning rate is chosen too. There is nothing to sample from a matrix with gaps: Settings I
and II.
"""

from __future__ import annotations

from collections.abc import Sequence

from anchors import Anchor
from common import start
from comparison import AS_RUN, AS_WRITTEN, METRICS, compared, draw, few, summaries
from lr import complete_rows, is_authors_lr, joint
from settings import AUTHORS, PLAIN, PLAIN_AT_THEIR_RANK, Outcome, chosen_rows, outcomes

SHOWN = ("I", "IV")
JOINT = ("I", "II")
PLAINS = (PLAIN, PLAIN_AT_THEIR_RANK)


def main(argv: Sequence[str] | None = None) -> None:
    """Tables, pictures, anchors."""
    script = start(__file__, __doc__, argv)
    matrix = joint(script)
    corpus = complete_rows(matrix)
    as_rows = chosen_rows(corpus, script.quick)
    found = list(outcomes(corpus, SHOWN, as_rows, (AUTHORS, PLAIN)))
    tasks = chosen_rows(matrix, script.quick)
    of_joint = list(outcomes(matrix, JOINT, tasks, PLAINS))
    tables = summaries(found), summaries(of_joint)

    script.write_table(tables[0])
    script.write_table(tables[1], "joint")
    script.write_picture(draw(tables[0], [(name, metric) for name in SHOWN for metric in METRICS]))
    panels = [(name, metric) for name in JOINT for metric in METRICS]
    script.write_picture(draw(tables[1], panels, PLAINS), "joint")
    script.finish(
        anchors(found, of_joint) if is_authors_lr(matrix) else [],
        rows=len(as_rows),
        tasks=len(tasks),
        seed=0,
    )


def anchors(found: Sequence[Outcome], of_joint: Sequence[Outcome]) -> list[Anchor]:
    """What Appendix E.4.2 says, where Figure 24 resembles Figure 11."""
    ways = ((AUTHORS, AS_RUN), (PLAIN, AS_WRITTEN))
    result, paper = "few measurements, learning rates as rows (Figure 24)", "ED-MF outperforms"
    of_rows = [
        compared(found, way, name, rivals, few(way), result, paper)
        for name in SHOWN
        for way, rivals in ways
    ]
    result = "few measurements, joint configurations (Figure 24)"
    return of_rows + [
        compared(of_joint, way, name, AS_WRITTEN, few(way), result, paper)
        for name in JOINT
        for way in PLAINS
    ]


if __name__ == "__main__":
    main()
