"""Figure 16: tasks by the number of configurations that take less than the median memory."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from anchors import Anchor, claim
from common import MIB, WIDTH, is_authors, start
from numpy.typing import NDArray


def main(argv: Sequence[str] | None = None) -> None:
    """Table, picture, anchors."""
    script = start(__file__, __doc__, argv)
    corpus = script.corpus
    cap = float(np.median(corpus.memory))
    below = (corpus.memory < cap).sum(axis=1)
    at_most = (corpus.memory <= cap).sum(axis=1)

    script.write_table(
        [
            {"task": task, "configurations_below": low, "configurations_at_most": most}
            for task, low, most in zip(corpus.tasks, below, at_most, strict=True)
        ]
    )
    figure, axes = plt.subplots(figsize=(WIDTH, 2.5))
    d = len(corpus.space)
    axes.bar(np.arange(d + 1), np.bincount(below, minlength=d + 1), width=1)
    axes.set(
        xlabel=f"configurations, of {d}, that take less than the median of {cap / MIB:.3g} MiB",
        ylabel=f"tasks, of {len(corpus.tasks)}",
        xlim=(-0.5, d + 0.5),
    )
    script.write_picture(figure)
    script.finish(anchors(below, at_most, d) if is_authors(corpus) else [], cap=cap)


def anchors(below: NDArray[np.int_], at_most: NDArray[np.int_], d: int) -> list[Anchor]:
    """What Appendix E says of resolution 32, tasks 1 to 21 of Table 2, and of resolution 64."""
    cheap, expensive = below[:21], below[21:]
    return [
        claim(
            "tasks of resolution 32 that allow all configurations under the median (Appendix E)",
            "all 21",
            f"{(cheap == d).sum()} of {len(cheap)}",
            bool((cheap == d).all()),
        ),
        claim(
            "configurations that tasks of resolution 64 allow (Appendix E)",
            f"far less than {d}",
            f"{expensive.min()} to {expensive.max()}",
            bool(expensive.max() < d / 2),
            "far less read as less than half; below the cap as in the caption, and up to "
            f"{at_most[21:].max()} with those that meet it exactly",
        ),
    ]


if __name__ == "__main__":
    main()
