"""Figure 9: frontiers from a uniform sample of the error matrix, by sampling ratio.

Violins: all tasks, from one sample. Error bars: CIFAR-10, over samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from anchors import Anchor, claim
from common import is_authors, start
from meta_training import AUTHORS, CONVENTIONS, METRICS, Sampled, draw, medians, sampled, summaries

from optuna_peppp import ErrorMatrix

RATIOS = tuple(round(ratio, 2) for ratio in np.arange(0.05, 0.51, 0.05))
QUICK_RATIOS = (0.05, 0.2, 0.5)
SAMPLES = 100
QUICK_SAMPLES = 5


def main(argv: Sequence[str] | None = None) -> None:
    """Table, picture, anchors."""
    script = start(__file__, __doc__, argv)
    corpus, example = script.corpus, script.example
    found = uniformly_sampled(corpus, example, script.quick)

    script.write_table(summaries(found))
    script.write_picture(draw(found, "sampled (% of memory)", corpus.tasks[example]))
    script.finish(anchors(found) if is_authors(corpus) else [], samples=len(found[0].example))


def uniformly_sampled(corpus: ErrorMatrix, example: int, quick: bool) -> list[Sampled]:
    """All ratios."""
    ratios = QUICK_RATIOS if quick else RATIOS
    chances = {ratio: np.full(corpus.errors.shape, ratio) for ratio in ratios}
    samples = QUICK_SAMPLES if quick else SAMPLES
    return sampled(corpus, chances, example=example, samples=samples)


def anchors(found: Sequence[Sampled], figure: str = "Figure 9") -> list[Anchor]:
    """What Section 4.1 reads off the figure."""
    ratios = [sample.name for sample in found]
    least, fifth, most = (ratios.index(ratio) for ratio in QUICK_RATIOS)
    anchors_found = []
    for convention in CONVENTIONS:
        middle = {name: medians(found, convention, metric) for metric, name in METRICS.items()}
        said = "; ".join(
            f"{name} {values[least]:.3f}, {values[fifth]:.3f}, {values[most]:.3f}"
            for name, values in middle.items()
        )
        way = [(v[least] - v[fifth]) / (v[least] - v[most]) for v in middle.values()]
        anchors_found += [
            claim(
                f"estimates at larger sampling ratios, {convention} ({figure})",
                "more accurate",
                said,
                all(v[most] < v[fifth] < v[least] for v in middle.values()),
                "medians over tasks at 5%, 20% and 50%" + "; beyond 20% what rank and shrinkage "
                "leave over stays, as drawn errors are predicted too" * (convention == AUTHORS),
            ),
            claim(
                f"20% of the entries, {convention} ({figure})",
                "already suffice",
                f"{min(way):.0%} to {max(way):.0%} of the way from 5% to 50%",
                min(way) > 0.8,
                "suffice read as more than 80% of the way in every metric's median",
            ),
        ]
    return anchors_found


if __name__ == "__main__":
    main()
