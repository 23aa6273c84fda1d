"""Figure 15: histograms of all errors and of all memory, with their medians."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from anchors import number
from common import MIB, ORANGE, WIDTH, is_authors, start

BINS = 30


def main(argv: Sequence[str] | None = None) -> None:
    """Table, picture, anchors."""
    script = start(__file__, __doc__, argv)
    corpus = script.corpus
    quantities = (
        ("error", "test error", "", corpus.errors),
        ("memory", "memory of the training (MiB)", " MiB", corpus.memory / MIB),
    )
    rows: list[dict[str, object]] = []
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.5))
    for ax, (name, xlabel, unit, values) in zip(axes, quantities, strict=True):
        counts, edges = np.histogram(values, BINS)
        rows += [
            {"quantity": name, "from": low, "to": high, "count": count}
            for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
        ]
        median = float(np.median(values))
        ax.stairs(counts, edges, fill=True)
        ax.axvline(median, color=ORANGE, linestyle="--", label=f"median {median:.3g}{unit}")
        ax.set(xlabel=xlabel, ylabel=f"measurements, of {values.size:,}")
        # Above the bars, whatever their shape.
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1))
    script.write_table(rows)
    script.write_picture(figure)
    medians = {name: float(np.median(values)) for name, _, _, values in quantities}
    anchors = [
        number("median error (Appendix E)", "0.78", medians["error"]),
        number("median memory (Appendix E)", "816 MiB", medians["memory"], "printed as MB"),
    ]
    script.finish(anchors if is_authors(corpus) else [], medians=medians)


if __name__ == "__main__":
    main()
