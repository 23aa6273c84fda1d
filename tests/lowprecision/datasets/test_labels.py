from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from optuna_peppp.lowprecision.datasets.labels import class_numbers, draw_test_part

TRAIN, TEST = [3, 7, 40, 7], [40, 3]
NUMBERS = [0, 1, 2, 1], [2, 0]
ONE_HOT = np.eye(3)[[2, 0, 1, 0]], np.eye(3)[[1, 2]]


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        *((np.array(TRAIN, d), np.array(TEST, d), NUMBERS) for d in "bBhHiIlLqQefdg"),
        (np.array(TRAIN)[:, None], np.array(TEST, np.uint8), NUMBERS),
        (np.array([-1.0, 0, 1]), np.array([-1]), ([0, 1, 2], [0])),
        (np.array([False, True]), np.array([True, True]), ([0, 1], [1, 1])),
        (np.array(["dog", "a cat", "dog"]), np.array(["dog"]), ([1, 0, 1], [1])),
        (np.array(["é", "b"]), np.array(["é".encode()]), ([1, 0], [1])),
        (ONE_HOT[0], ONE_HOT[1], ([2, 0, 1, 0], [1, 2])),
        (ONE_HOT[0].astype(bool), ONE_HOT[1].astype(np.uint8), ([2, 0, 1, 0], [1, 2])),
        # Two rows of two are one-hot; two rows of one are labels.
        (np.array([[1, 0], [0, 1]]), np.array([[1, 0]]), ([0, 1], [0])),
        (np.array([[1], [0]]), np.array([[1]]), ([1, 0], [1])),
        # A class that only the training part holds is a class.
        (np.array([0, 5, 9]), np.array([9]), ([0, 1, 2], [2])),
    ],
    ids=str,
)
def test_classes_are_numbered_from_zero(
    train: NDArray[Any], test: NDArray[Any], expected: tuple[list[int], list[int]]
) -> None:
    ours, theirs, classes = class_numbers(train, test)
    assert (ours.tolist(), theirs.tolist()) == expected
    assert classes == 1 + max(expected[0])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, np.nan, 1], "1 of 3 are not, the first of them nan at index 1"),
        ([0, np.inf, np.nan], "2 of 3 are not, the first of them inf at index 1"),
        ([0, 0.5, 1], "the first of them 0.5 at index 1"),
        ([0, 1e300, 1], "the first of them 1e[+]300 at index 1"),
        (np.array([0, 2**64 - 1], np.uint64), "the first of them 18446744073709551615 at index 1"),
        (np.array(["2020-01-01", "2021-01-01"], "M8[D]"), r"text; got datetime64\[D\]"),
        (np.array([0, 1], "m8[s]"), r"text; got timedelta64\[s\]"),
        ([0, 1j], "text; got complex128"),
        (np.zeros(2, [("a", int)]), "text; got .*'a'"),
        (np.array([b"\xff", b"a"]), "be text in UTF-8"),
        (np.zeros((4, 3)), r"hold one label per image; got shape \(4, 3\)"),
        (np.ones((4, 3)), r"hold one label per image; got shape \(4, 3\)"),
        ([[0, 1], [1, 1]], r"hold one label per image; got shape \(2, 2\)"),
        ([["a", "b"], ["c", "d"]], r"hold one label per image; got shape \(2, 2\)"),
        (np.zeros((2, 2, 2)), r"hold one label per image; got shape \(2, 2, 2\)"),
        (3, r"hold one label per image; got shape \(\)"),
    ],
    ids=str,
)
@pytest.mark.parametrize("part", ["train", "test"])
def test_what_is_no_class_is_refused(labels: Any, message: str, part: str) -> None:
    parts = {"train": np.array([0, 1]), "test": np.array([0, 1])} | {part: np.asarray(labels)}
    with pytest.raises(
        ValueError, match=f"^{part}_labels must (be classes.*|be whole.*)?{message}"
    ):
        class_numbers(**parts)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([0, 1], [0, 9], "9 of test_labels is not among 0, 1"),
        (["a", "b"], ["c"], "'c' of test_labels is not among 'a', 'b'"),
        ([*range(9)], [10, 11], "10, 11 of test_labels is not among 0, 1, 2, 3, 4 and 4 more"),
        ([4, 4], [4], "at least two classes; all are 4"),
        (["a"], ["a"], "at least two classes; all are 'a'"),
        (["1", "2"], [1, 2], "of one kind; got <U1 and int64"),
    ],
)
def test_parts_that_do_not_fit(train: list[Any], test: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_numbers(np.array(train), np.array(test))


def test_a_drawn_test_part_has_every_class() -> None:
    labels = np.repeat([0, 1], [20, 40])
    train, test = draw_test_part(labels, 0.25, 0)
    assert sorted([*train, *test]) == list(range(60))
    assert np.bincount(labels[test]).tolist() == [5, 10]
    np.testing.assert_array_equal(draw_test_part(labels, 0.25, 0)[1], test)
    assert sorted(draw_test_part(labels, 0.25, 1)[1]) != sorted(test)


@pytest.mark.parametrize(
    ("counts", "fraction"), [([3, 1], 0.5), ([5, 5], 0.1), ([5, 5], 0.9), ([1, 1], 0.5)], ids=str
)
def test_too_few_images_to_draw_from(counts: list[int], fraction: float) -> None:
    labels = np.repeat(np.arange(2), counts)
    message = rf"{sum(counts)} images in 2 classes, {min(counts)} in the smallest, cannot be split"
    with pytest.raises(ValueError, match=message):
        draw_test_part(labels, fraction, 0)
