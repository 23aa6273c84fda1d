from __future__ import annotations

import numpy as np
import pytest

from optuna_peppp.configurations.elements import DynamicMap, Integer


@pytest.mark.parametrize("bits", range(2, 9))
def test_integers(bits: int) -> None:
    assert str(Integer(bits)) == f"int{bits}"
    assert Integer(bits).max == 2 ** (bits - 1) - 1


@pytest.mark.parametrize("bits", [1, 9])
def test_other_integers_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=f"between 2 and 8; got {bits}"):
        Integer(bits)


def test_other_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="must be 4 or 8; got 6"):
        DynamicMap(6)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("signed", [True, False])
def test_a_map_has_a_number_a_code(bits: int, signed: bool) -> None:
    numbers = DynamicMap(bits, signed).numbers()
    assert numbers.dtype == np.float32
    assert len(set(numbers.tolist())) == 2**bits
    assert (np.diff(numbers) > 0).all()
    assert (numbers[0] < 0) == signed
    assert numbers[-1] == DynamicMap(bits, signed).max == 1


def test_maps_by_hand() -> None:
    # A decade of one, two and four numbers, in the middles of as many equal parts of [.1, 1].
    decades = [0.0055, 0.0325, 0.0775, 0.2125, 0.4375, 0.6625, 0.8875]
    expected = [*(-x for x in reversed(decades)), 0.0, *decades, 1.0]
    np.testing.assert_allclose(DynamicMap(4).numbers(), expected, rtol=1e-6)
    assert DynamicMap(4, signed=False).numbers().tolist() == [i / 16 for i in range(1, 17)]
    assert DynamicMap(8).min_subnormal == pytest.approx(0.55e-6)
    # Without a sign the smallest decade has two numbers.
    assert DynamicMap(8, signed=False).min_subnormal == pytest.approx(0.325e-6)
