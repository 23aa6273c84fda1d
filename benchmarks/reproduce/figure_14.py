"""Figure 14: how much of the error matrix its first singular values carry.

The paper's Appendix E counts squares of singular values. Section 4.1 says that rank 5 "accounts for
78% of the variance": that is the first five's share of the plain sum. Both are shown.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from anchors import Anchor, number
from common import WIDTH, is_authors, start
from numpy.typing import ArrayLike, NDArray

SHOWN = 30


def main(argv: Sequence[str] | None = None) -> None:
    """Table, picture, anchors."""
    script = start(__file__, __doc__, argv)
    values = np.linalg.svd(script.corpus.errors, compute_uv=False)
    squares, plain = shares(values**2), shares(values)

    script.write_table(
        [
            {"singular_values": k, "share_of_squares": square, "share_of_sum": share}
            for k, (square, share) in enumerate(zip(squares, plain, strict=True), start=1)
        ]
    )
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.5))
    for ax, share, title in zip(axes, (squares, plain), ("squares", "sum"), strict=True):
        shown = 100 * share[:SHOWN]
        ax.plot(np.arange(1, len(shown) + 1), shown, marker=".")
        ax.set(xlabel="number of singular values", ylabel=f"share of their {title} (%)")
    script.write_picture(figure)
    script.finish(anchors(squares, plain) if is_authors(script.corpus) else [])


def shares(values: ArrayLike) -> NDArray[np.float64]:
    """The first k values' share of the sum, for every k: shape (r,) as ``values``."""
    array = np.asarray(values, dtype=np.float64)
    return np.cumsum(array / array.sum())


def anchors(squares: NDArray[np.float64], plain: NDArray[np.float64]) -> list[Anchor]:
    """The shares that the paper prints."""
    return [
        number("first singular value, share of squares (Appendix E)", "99.0%", squares[0]),
        number("first two singular values, share of squares (Appendix E)", "> 99.5%", squares[1]),
        number(
            "rank 5, share of the variance (Section 4.1)",
            "78%",
            plain[4],
            f"share of the sum of singular values; of their squares it is {squares[4]:.1%}",
        ),
    ]


if __name__ == "__main__":
    main()
