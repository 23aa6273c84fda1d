"""Figure 21: singular values of the learning-rate-tuned errors, a row a task and learning rate."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from anchors import Anchor, claim
from common import WIDTH, start
from lr import as_rows, is_authors_lr, joint
from numpy.typing import NDArray


def main(argv: Sequence[str] | None = None) -> None:
    """Table, picture, anchors."""
    script = start(__file__, __doc__, argv)
    matrix = joint(script)
    errors = as_rows(matrix).errors
    # Rows that were measured in part have no place in a decomposition.
    errors = errors[~np.isnan(errors).any(axis=1)]
    values = np.linalg.svd(errors, compute_uv=False)
    squares = np.cumsum(values**2) / np.sum(values**2)

    script.write_table(
        [
            {"index": i, "singular_value": value, "share_of_squares": share}
            for i, (value, share) in enumerate(zip(values, squares, strict=True), start=1)
        ]
    )
    figure, axes = plt.subplots(figsize=(WIDTH, 2.6))
    axes.semilogy(np.arange(1, len(values) + 1), values, marker=".")
    axes.set(
        title=f"errors of {len(errors)} pairs of task and learning rate",
        xlabel="index",
        ylabel="singular value",
    )
    script.write_picture(figure)
    script.finish(anchors(errors, squares) if is_authors_lr(matrix) else [])


def anchors(errors: NDArray[np.float64], squares: NDArray[np.float64]) -> list[Anchor]:
    """What Appendix E.4.2 says of the matrix."""
    return [
        claim(
            "learning-rate-tuned matrix (Appendix E.4.2)",
            "45 rows, 99 columns",
            "{} rows, {} columns".format(*errors.shape),
            errors.shape == (45, 99),
        ),
        claim(
            "its singular values (Figure 21)",
            "fast decay",
            f"the first {squares[0]:.1%} of the squares, five {squares[4]:.1%}",
            bool(squares[4] > 0.99),
            "fast read as 99% of the squares in five; the paper prints no number",
        ),
    ]


if __name__ == "__main__":
    main()
