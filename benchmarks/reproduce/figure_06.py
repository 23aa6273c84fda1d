"""Figure 6: (a) Kendall's tau of the errors of every two tasks, (b) singular values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
from anchors import Anchor, claim
from common import WIDTH, is_authors, start
from numpy.typing import NDArray
from scipy.stats import kendalltau

IMAGENET = slice(37, 87)
"""Rows of the authors' matrix: indices 38 to 87 of Table 2."""


def main(argv: Sequence[str] | None = None) -> None:
    """Tables, picture, anchors."""
    script = start(__file__, __doc__, argv)
    corpus = script.corpus
    tau = rank_correlations(corpus.errors)
    values = np.linalg.svd(corpus.errors, compute_uv=False)

    script.write_table(
        [
            {"task": task, **dict(zip(corpus.tasks, row, strict=True))}
            for task, row in zip(corpus.tasks, tau.round(4).tolist(), strict=True)
        ]
    )
    script.write_table(
        [{"index": i, "singular_value": value} for i, value in enumerate(values.tolist(), start=1)],
        "singular_values",
    )
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.9), width_ratios=(1.15, 1))
    n = len(corpus.tasks)
    image = left.imshow(tau, cmap="RdBu", vmin=-1, vmax=1, extent=(0.5, n + 0.5, n + 0.5, 0.5))
    left.set(title="(a) rank correlation of tasks", xlabel="index of task", ylabel="index of task")
    left.locator_params(integer=True)
    figure.colorbar(image, ax=left, label="Kendall's tau", shrink=0.8)
    right.semilogy(np.arange(1, len(values) + 1), values, marker=".")
    right.set(title="(b) errors of all tasks", xlabel="index", ylabel="singular value")
    script.write_picture(figure)
    script.finish(anchors(tau) if is_authors(corpus) else [])


def rank_correlations(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kendall's tau-b of every two rows of shape (n, d): shape (n, n).

    NaN where a row is constant.
    """
    tau = np.eye(len(errors))
    for i, j in combinations(range(len(errors)), 2):
        tau[i, j] = tau[j, i] = kendalltau(errors[i], errors[j]).statistic
    return tau


def anchors(tau: NDArray[np.float64]) -> list[Anchor]:
    """What Section 3.1 reads off the figure."""
    pairs = tau[np.triu_indices(len(tau), 1)]
    imagenet = tau[IMAGENET, IMAGENET]
    alike = float(np.median(imagenet[np.triu_indices(len(imagenet), 1)]))
    return [
        claim(
            "similar tasks rank configurations alike: ImageNet's subsets (Section 3.1)",
            "larger correlations",
            f"median tau {alike:.2f}, of all pairs {np.median(pairs):.2f}",
            bool(alike > np.median(pairs)),
        ),
        claim(
            "pairs of tasks with negative correlation (Section 3.1)",
            "some",
            f"{(pairs < 0).mean():.0%}, the lowest {pairs.min():.2f}",
            bool((pairs < 0).any()),
        ),
    ]


if __name__ == "__main__":
    main()
