"""Figure 22: frontiers from a uniform sample of the learning-rate-tuned matrix, as Figure 9.

Rows are pairs of a task and a learning rate (Table 5). Error bars: the first of them, aquatic
mammals at 0.01, over samples.
"""

from __future__ import annotations

from collections.abc import Sequence

from common import start
from figure_09 import anchors, uniformly_sampled
from lr import complete_rows, is_authors_lr, joint
from meta_training import draw, summaries


def main(argv: Sequence[str] | None = None) -> None:
    """Table, picture, anchors."""
    script = start(__file__, __doc__, argv)
    matrix = joint(script)
    corpus = complete_rows(matrix)
    found = uniformly_sampled(corpus, 0, script.quick)

    script.write_table(summaries(found))
    script.write_picture(draw(found, "sampled (% of memory)", corpus.tasks[0]))
    script.finish(
        anchors(found, "Figure 22") if is_authors_lr(matrix) else [],
        samples=len(found[0].example),
    )


if __name__ == "__main__":
    main()
