"""Figure 17: frontiers from a sample that prefers small memory, by the largest probability p_max.

Violins: all tasks, from one sample. Error bars: CIFAR-10, over samples. Completed by weighted
SoftImpute as in the paper, and, as a line, without weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import authors
import numpy as np
from anchors import Anchor, claim
from common import is_authors, start
from meta_training import CONVENTIONS, METRICS, Sampled, draw, medians, sampled, summaries
from numpy.typing import NDArray

from optuna_peppp import ErrorMatrix

LARGEST = tuple(round(largest, 1) for largest in np.arange(0.1, 1.01, 0.1))
QUICK_LARGEST = (0.1, 0.4, 1.0)
SAMPLES = 20
QUICK_SAMPLES = 2


def main(argv: Sequence[str] | None = None) -> None:
    """Table, picture, anchors."""
    script = start(__file__, __doc__, argv)
    corpus, example = script.corpus, script.example
    weighted = sampled_by_memory(corpus, example, script.quick, weighted=True)
    plain = sampled_by_memory(corpus, example, script.quick, weighted=False)

    script.write_table([*summaries(weighted, weighted=True), *summaries(plain, weighted=False)])
    script.write_picture(draw(weighted, "sampled (% of memory)", corpus.tasks[example], plain))
    script.finish(
        anchors(weighted, plain) if is_authors(corpus) else [], samples=len(plain[0].example)
    )


def sampled_by_memory(
    corpus: ErrorMatrix, example: int, quick: bool, *, weighted: bool
) -> list[Sampled]:
    """All p_max."""
    chances = {
        largest: authors.memory_chances(corpus.memory, largest)
        for largest in (QUICK_LARGEST if quick else LARGEST)
    }
    samples = QUICK_SAMPLES if quick else SAMPLES
    return sampled(corpus, chances, example=example, samples=samples, weighted=weighted)


def anchors(
    weighted: Sequence[Sampled], plain: Sequence[Sampled], figure: str = "Figure 17"
) -> list[Anchor]:
    """What Appendix E.2 reads off the figure."""
    found = []
    for convention in CONVENTIONS:
        said, without, gains = [], [], []
        for metric, name in METRICS.items():
            middle = medians(weighted, convention, metric)
            unweighted = medians(plain, convention, metric)
            said.append((name, middle))
            without.append((name, unweighted))
            gains.append(middle < unweighted)
        found.append(
            claim(
                f"non-uniform sampling with more memory, {convention} ({figure})",
                "improves",
                _first_to_last(said),
                all(middle[-1] < middle[0] for _, middle in said),
                f"medians over tasks, p_max 0.1 to 1; without weights {_first_to_last(without)}: "
                f"weights lower {np.sum(gains)} of {np.size(gains)} medians",
            )
        )
    return found


def _first_to_last(values: Sequence[tuple[str, NDArray[np.float64]]]) -> str:
    return "; ".join(f"{name} {middle[0]:.3f} to {middle[-1]:.3f}" for name, middle in values)


if __name__ == "__main__":
    main()
