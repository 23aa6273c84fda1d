"""Figure 23: frontiers from samples of the learning-rate-tuned matrix that prefer small memory.

As Figure 17, on pairs of a task and a learning rate (Table 5). All of them have the same memory, so
that the configurations of the most are hardly ever drawn, and completed as if they had no error:
the relative error stays above that.
"""

from __future__ import annotations

from collections.abc import Sequence

from common import start
from figure_17 import anchors, sampled_by_memory
from lr import complete_rows, is_authors_lr, joint
from meta_training import draw, summaries


def main(argv: Sequence[str] | None = None) -> None:
    """Table, picture, anchors."""
    script = start(__file__, __doc__, argv)
    matrix = joint(script)
    corpus = complete_rows(matrix)
    weighted = sampled_by_memory(corpus, 0, script.quick, weighted=True)
    plain = sampled_by_memory(corpus, 0, script.quick, weighted=False)

    script.write_table([*summaries(weighted, weighted=True), *summaries(plain, weighted=False)])
    script.write_picture(draw(weighted, "sampled (% of memory)", corpus.tasks[0], plain))
    script.finish(
        anchors(weighted, plain, "Figure 23") if is_authors_lr(matrix) else [],
        samples=len(plain[0].example),
    )


if __name__ == "__main__":
    main()
