"""Frontiers of two objectives, both minimized, and the measures of their quality."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

MARGIN: Final = 0.05
"""How far beyond the largest memory the reference lies, relative to the span of memory: so that
the configuration of most memory counts too."""

REFERENCE: Final = (1 + MARGIN, 1.0)
"""Upper bounds of scaled memory (:func:`scale`) and of error in hypervolumes."""


def frontier(points: ArrayLike) -> NDArray[np.intp]:
    """Indices of the frontier by growing first objective; of equal points, the first.

    Unlike :func:`nondominated` it loses nothing to duplicates: every point has a point of the
    frontier that is at most as large in both objectives.

    Args:
        points: Shape (n, 2), finite.

    Raises:
        ValueError: ``points`` has another shape or holds a number that is not finite.

    >>> frontier([[3, 1], [1, 3], [2, 2], [2, 2], [3, 3]])
    array([1, 2, 0])
    """
    checked = _points("points", points)
    order = np.lexsort((checked[:, 1], checked[:, 0]))
    second = checked[order, 1]
    # Sorted by both objectives, a point is on the frontier exactly if its second objective is
    # below that of all points before it.
    lowest_before = np.concatenate(([np.inf], np.minimum.accumulate(second)[:-1]))
    indices: NDArray[np.intp] = order[second < lowest_before[: len(second)]]
    return indices


def nondominated(points: ArrayLike) -> NDArray[np.bool_]:
    """Marks the points that no other point equals or betters in both objectives.

    Of two equal points neither is nondominated; :func:`frontier` keeps one of them.

    Args:
        points: Shape (n, 2), finite.

    Returns:
        Shape (n,). Computed in O(n log n).

    Raises:
        ValueError: ``points`` has another shape or holds a number that is not finite.

    >>> nondominated([[3, 1], [1, 3], [2, 2], [2, 2], [3, 3]])
    array([ True,  True, False, False, False])
    """
    checked = _points("points", points)
    first, last = np.zeros((2, len(checked)), dtype=np.bool_)
    first[frontier(checked)] = True
    last[::-1][frontier(checked[::-1])] = True
    # What stays both as the first and as the last of its equals has no equal.
    return first & last


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Area that ``points`` dominate within ``reference``.

    Points that are not below the reference in both objectives contribute nothing, and a
    repeated point contributes once.

    Args:
        points: Shape (n, 2), finite.
        reference: Shape (2,), the upper bound of both objectives.

    Raises:
        ValueError: A shape is wrong or a number is not finite.

    >>> hypervolume([[1, 3], [2, 2], [2, 2], [3, 1], [5, 0]], (4, 4))
    6.0
    """
    checked = _points("points", points)
    upper = np.asarray(reference, dtype=np.float64)
    if upper.shape != (2,) or not np.isfinite(upper).all():
        raise ValueError(f"reference must be two finite numbers; got {reference!r}")
    inside = checked[(checked < upper).all(axis=1)]
    steps = inside[frontier(inside)]
    widths = np.diff(steps[:, 0], append=upper[0])
    return float(widths @ (upper[1] - steps[:, 1]))


def convergence(estimated: ArrayLike, true: ArrayLike) -> float:
    """Mean distance from each estimated frontier point to the nearest true one.

    (Paper, Section 4, Figure 8a; there the memories are first scaled to [0, 1].)

    Args:
        estimated: Shape (m, 2), the estimated frontier.
        true: Shape (p, 2), the true frontier.

    Raises:
        ValueError: A frontier is empty, has another shape or holds a number that is not finite.

    >>> convergence([[0, 1], [3, 4]], [[0, 0], [0, 4]])
    2.0
    """
    ours, theirs = _points("estimated", estimated), _points("true", true)
    for name, frontier_points in (("estimated", ours), ("true", theirs)):
        if len(frontier_points) == 0:
            raise ValueError(f"{name} must hold at least one point; got none")
    distances = np.linalg.norm(ours[:, None] - theirs[None], axis=2)
    return float(distances.min(axis=1).mean())


def hyperdiff(estimated: ArrayLike, true: ArrayLike, reference: ArrayLike) -> float:
    """Absolute difference of the hypervolumes of two frontiers (paper, Section 4, Figure 8b).

    Args:
        estimated: Shape (m, 2).
        true: Shape (p, 2).
        reference: Shape (2,), the upper bound of both objectives.

    Raises:
        ValueError: A shape is wrong or a number is not finite.

    >>> hyperdiff([[1, 1]], [[0, 0]], (2, 2))
    3.0
    """
    return abs(
        hypervolume(_points("estimated", estimated), reference)
        - hypervolume(_points("true", true), reference)
    )


def span(memory: NDArray[np.float64]) -> float:
    """The range of memory, the unit in which it is scaled; where there is none, memory itself."""
    return float(np.ptp(memory)) or float(memory.max())


def scale(memory: NDArray[np.float64]) -> NDArray[np.float64]:
    """Memory between 0, the least, and 1, the most; shape (d,) in any unit."""
    scaled: NDArray[np.float64] = (memory - memory.min()) / span(memory)
    return scaled


def reference(memory: NDArray[np.float64]) -> tuple[float, float]:
    """``REFERENCE`` for memory in its own unit: a margin beyond the most, and of error."""
    return float(memory.max()) + MARGIN * span(memory), REFERENCE[1]


def predicted_frontier(
    memory: NDArray[np.float64], mean: NDArray[np.float64], measured: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Indices of the frontier by growing memory; of equal points a measured one stays.

    Args:
        memory: Shape (d,), in any unit.
        mean: Shape (d,), errors.
        measured: Shape (d,), true where the error was measured.
    """
    measured_first = np.argsort(~measured, kind="stable")
    points = np.column_stack((memory, mean))[measured_first]
    return measured_first[frontier(points)]


def _points(name: str, points: ArrayLike) -> NDArray[np.float64]:
    """``points`` as a float64 array of shape (n, 2)."""
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"{name} must have shape (n, 2), two objectives; got {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad.size:
        raise ValueError(f"{name} must be finite; {name}[{bad[0]}] is {array[bad[0]].tolist()}")
    return array
