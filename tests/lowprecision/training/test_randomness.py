from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np
import pytest
import torch

from optuna_peppp.lowprecision.training.randomness import RandomStreams


def draws() -> list[float]:
    """One number of each generator that a network may draw from."""
    return [float(torch.rand(())), random.random(), float(np.random.rand())]  # noqa: NPY002


def states() -> list[Any]:
    """Of the process's generators, to be compared."""
    legacy: Any = np.random.get_state()  # noqa: NPY002
    return [torch.get_rng_state().tolist(), random.getstate(), legacy[1].tolist(), legacy[2:]]


def test_a_stream_is_what_a_seed_would_give() -> None:
    with RandomStreams(7).lent():
        ours = [draws() for _ in range(3)]
    outer = RandomStreams(0)
    with outer.lent():
        torch.manual_seed(7)
        random.seed(7)
        np.random.seed(7)  # noqa: NPY002
        assert [draws() for _ in range(3)] == ours


def test_a_stream_goes_on_where_it_stopped() -> None:
    whole, parts = RandomStreams(3), RandomStreams(3)
    with whole.lent():
        expected = [draws() for _ in range(4)]
    seen = []
    for _ in range(4):
        with parts.lent():
            seen.append(draws())
        draws()  # what the process draws does not matter
    assert seen == expected


@pytest.mark.parametrize("seed", [-1, 2**32, 2**63])
def test_any_seed_that_torch_takes(seed: int) -> None:
    with RandomStreams(seed).lent():
        first = draws()
    with RandomStreams(seed).lent():
        assert draws() == first


def test_the_process_finds_its_own_state_again() -> None:
    before, streams = states(), RandomStreams(1)
    with streams.lent():
        draws()
        np.random.seed(5)  # noqa: NPY002 - a network may seed as it likes
    assert states() == before
    with pytest.raises(RuntimeError, match="in the middle"):
        fail_in(streams)
    assert states() == before


def fail_in(streams: RandomStreams) -> None:
    with streams.lent():
        draws()
        raise RuntimeError("in the middle")


def test_streams_may_be_lent_within_one_another() -> None:
    outer, inner = RandomStreams(1), RandomStreams(2)
    with RandomStreams(1).lent():
        expected = [draws(), draws()]
    with outer.lent():
        first = draws()
        with inner.lent():
            draws()
        assert [first, draws()] == expected


def test_threads_take_turns() -> None:
    def work(seed: int) -> None:
        streams = RandomStreams(seed)
        for _ in range(20):
            with streams.lent():
                seen[seed].append(draws())

    seen: dict[int, list[list[float]]] = {seed: [] for seed in range(4)}
    before = states()
    threads = [threading.Thread(target=work, args=(seed,)) for seed in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states() == before
    for seed, numbers in seen.items():
        with RandomStreams(seed).lent():
            assert numbers == [draws() for _ in range(20)]
