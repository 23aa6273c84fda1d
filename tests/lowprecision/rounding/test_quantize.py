from __future__ import annotations

import functools
import importlib
import math
import sys
from fractions import Fraction
from types import ModuleType
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.precision import FORMATS_A, FORMATS_B
from optuna_peppp.lowprecision import quantize
from optuna_peppp.lowprecision.rounding.quantize import BACKENDS, ROUNDINGS, Backend, Rounding

# The package names its function as the module is called, so an import statement finds that.
MODULE: Any = importlib.import_module("optuna_peppp.lowprecision.rounding.kernels")
COMPILING: Any = importlib.import_module("optuna_peppp.lowprecision.rounding.compiling")
TENSOR_FORMATS: Any = importlib.import_module("optuna_peppp.lowprecision.rounding.tensor_formats")
TABLES = FORMATS_A + FORMATS_B
FLOAT32_MAX = float(torch.finfo(torch.float32).max)


@pytest.fixture(params=["eager", "compiled"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Both of our own backends."""
    name = cast(Backend, request.param)
    if name == "compiled" and not compiles():
        pytest.skip("torch.compile does not work here: it needs a C++ compiler")
    return name


def compiles() -> bool:
    return bool(COMPILING.can_compile(quiet=True))


def bits(x: Tensor) -> NDArray[np.int32]:
    """The bit patterns, by which -0.0 differs from 0.0."""
    return x.contiguous().numpy().view(np.int32)


@functools.cache
def magnitudes(fmt: FloatFormat) -> NDArray[np.float64]:
    """Every number of a format that is not negative, ascending; exact."""
    steps = 2**fmt.mantissa
    subnormal = np.arange(steps) * fmt.min_subnormal
    binades = fmt.min_normal * 2.0 ** np.arange(2**fmt.exponent - 1)
    normal = np.multiply.outer(binades, 1 + np.arange(steps) / steps).ravel()
    return np.concatenate([subnormal, normal])


def edges(fmt: FloatFormat) -> Tensor:
    """Every number of a format, every midpoint, their neighbours, and what lies outside."""
    numbers = magnitudes(fmt)
    beyond = fmt.max * np.array([1 + 2.0**-fmt.mantissa, 1.5, 2.0, 1e6, 1e30])
    tiny = 2.0 ** np.arange(-149, -100)
    exact = np.concatenate([numbers, (numbers[:-1] + numbers[1:]) / 2, beyond, tiny])
    inside = exact[exact <= FLOAT32_MAX].astype(np.float32)
    every = np.concatenate(
        [inside, np.nextafter(inside, np.float32(np.inf)), np.nextafter(inside, np.float32(0))]
    )
    every = np.append(every[(every > 0) & (every <= FLOAT32_MAX)], np.float32(FLOAT32_MAX))
    return torch.from_numpy(np.concatenate([[np.float32(0)], every, -every]).astype(np.float32))


def patterns(count: int, seed: int = 0) -> Tensor:
    """Finite floats of random bit patterns; without -0.0, where QPyTorch differs."""
    raw = np.random.default_rng(seed).integers(0, 2**32, count, dtype=np.uint32)
    floats = raw.view(np.float32)
    return torch.from_numpy(floats[np.isfinite(floats) & (floats != 0)])


def nearest_by_search(x: Tensor, fmt: FloatFormat) -> Tensor:
    """The oracle: the nearest number of the format, ties away from zero.

    It shares with QPyTorch's kernel that a subnormal first passes through one addition in float32.
    """
    numbers = magnitudes(fmt)
    given = x.abs().numpy()
    shifted = (given + np.float32(fmt.min_normal)).astype(np.float64) - fmt.min_normal
    exact = np.where(given < fmt.min_normal, shifted, given.astype(np.float64))
    below = np.searchsorted(numbers, exact, side="right") - 1
    above = np.minimum(below + 1, len(numbers) - 1)
    middle = (numbers[below] + numbers[above]) / 2
    with np.errstate(over="ignore"):  # with 8 exponent bits a format is wider than float32
        rounded = numbers[np.where(exact >= middle, above, below)].astype(np.float32)
    # A negative number that becomes zero becomes +0.0, there too.
    return torch.from_numpy(np.where(x.numpy() < 0, 0 - rounded, rounded))


def test_the_oracle_holds_every_code_of_a_format() -> None:
    for fmt in TABLES:
        numbers = magnitudes(fmt)
        assert len(set(numbers.tolist())) == 2 ** (fmt.bits - 1)
        assert (numbers[1], numbers[-1]) == (fmt.min_subnormal, fmt.max)


@pytest.mark.parametrize(
    ("fmt", "value", "expected"),
    [
        ("1-3-1", 0.3, 0.25),
        ("1-3-1", 2.5, 3.0),  # a tie goes away from zero,
        ("1-3-1", 3.5, 4.0),  # to an even or to an odd mantissa
        ("1-3-1", -2.5, -3.0),
        ("1-3-1", 2.4999998, 2.0),
        ("1-3-1", 0.0625, 0.125),  # half of the smallest number
        ("1-3-1", 0.0624, 0.0),
        ("1-3-1", 24.0, 24.0),
        ("1-3-1", 1e9, 24.0),
        ("1-4-3", 1000.0, 480.0),
        ("1-4-3", 0.1, 0.1015625),  # 13 / 128
        ("1-5-2", 0.1, 0.09375),  # 6 / 64
        ("1-8-7", 3e38, 226 * 2.0**120),
    ],
)
def test_nearest_by_hand(backend: Backend, fmt: str, value: float, expected: float) -> None:
    x = torch.tensor([value, -value])
    rounded = quantize(x, FloatFormat.parse(fmt), backend=backend)
    assert rounded.tolist() == [expected, -expected]


def test_a_subnormal_is_rounded_through_one_addition(backend: Backend) -> None:
    # A hair below half of the smallest number of 1-4-3: its float32 sum with 2^-6 loses the hair.
    x = torch.tensor([2.0**-10 - 2.0**-34, 2.0**-10 - 2.0**-29])
    assert bool((x < 2.0**-10).all())
    assert quantize(x, FloatFormat(4, 3), backend=backend).tolist() == [2.0**-9, 0.0]


@pytest.mark.parametrize("fmt", TABLES, ids=str)
def test_nearest_is_found_by_search(backend: Backend, fmt: FloatFormat) -> None:
    x = torch.cat([edges(fmt), patterns(100_000)])
    np.testing.assert_array_equal(
        bits(quantize(x, fmt, backend=backend)), bits(nearest_by_search(x, fmt))
    )


@pytest.mark.parametrize("fmt", TABLES, ids=str)
def test_nearest_is_qpytorchs(qtorch: ModuleType, backend: Backend, fmt: FloatFormat) -> None:
    x = torch.cat([edges(fmt), patterns(1_000_000)])
    reference = qtorch.quant.float_quantize(x, fmt.exponent, fmt.mantissa, "nearest")
    np.testing.assert_array_equal(bits(quantize(x, fmt, backend=backend)), bits(reference))


def test_the_reference_can_be_asked_for(qtorch: ModuleType) -> None:
    x = torch.randn(100, generator=torch.Generator().manual_seed(0)).view(10, 10).t()
    ours = quantize(x, FloatFormat(4, 3), backend="qpytorch")
    np.testing.assert_array_equal(bits(ours), bits(quantize(x, FloatFormat(4, 3))))
    assert quantize(x.double(), FloatFormat(4, 3), backend="qpytorch").dtype == torch.float64


def test_the_reference_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qtorch.quant", None)
    with pytest.raises(ImportError, match=r"pip install 'optuna_peppp\[qpytorch\]'"):
        quantize(torch.ones(1), FloatFormat(4, 3), backend="qpytorch")


formats = st.builds(FloatFormat, st.integers(2, 8), st.integers(1, 23))
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(deadline=None)  # the first call is slow
@given(formats, st.lists(floats, min_size=1, max_size=20))
def test_nearest_of_any_format(fmt: FloatFormat, values: list[float]) -> None:
    """Idempotent, odd, monotone, and within half a unit in the last place."""
    x = torch.tensor(sorted(values))
    rounded = quantize(x, fmt)
    assert torch.equal(quantize(rounded, fmt), rounded)
    assert torch.equal(quantize(-x, fmt), -rounded)
    assert torch.equal(rounded.sort().values, rounded)
    for value, result in zip(x.tolist(), rounded.tolist(), strict=True):
        if math.isinf(result):
            assert fmt.exponent == 8
            assert abs(value) > FLOAT32_MAX * (1 - 2.0**-fmt.mantissa)
        elif abs(value) > fmt.max:
            assert abs(result) == fmt.max
        else:
            exponent = max(math.frexp(value)[1] - 1, 2 - 2 ** (fmt.exponent - 1))
            unit = Fraction(2) ** (exponent - fmt.mantissa)
            # Where the float32 sum of a subnormal is rounded, its own half unit comes on top.
            slack = Fraction(2) ** (1 - 2 ** (fmt.exponent - 1) - 23)
            assert abs(Fraction(result) - Fraction(value)) <= unit / 2 + slack


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_nan_stays_nan(backend: Backend, rounding: Rounding) -> None:
    payloads = [0x7FC00000, 0x7F800001, 0x7FFFFFFF, 0x7FBFFFFF, 0x7FC00001]
    unsigned = np.array([p | sign for p in payloads for sign in (0, 1 << 31)], dtype=np.uint32)
    x = torch.from_numpy(unsigned.view(np.float32))
    for fmt in TABLES:
        assert bool(quantize(x, fmt, rounding, backend=backend).isnan().all())


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_infinity_saturates(backend: Backend, rounding: Rounding) -> None:
    x = torch.tensor([math.inf, -math.inf])
    for fmt in TABLES:
        # The range of 8 exponent bits is wider than float32's: it saturates to infinity.
        largest = math.inf if fmt.exponent == 8 else fmt.max
        assert quantize(x, fmt, rounding, backend=backend).tolist() == [largest, -largest]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_zero_keeps_its_sign(backend: Backend, rounding: Rounding) -> None:
    x = torch.tensor([0.0, -0.0])
    for fmt in TABLES:
        np.testing.assert_array_equal(bits(quantize(x, fmt, rounding, backend=backend)), bits(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_come_back(backend: Backend, dtype: torch.dtype) -> None:
    x = torch.linspace(-600, 600, 1001, dtype=torch.float64).to(dtype)
    rounded = quantize(x, FloatFormat(4, 3), backend=backend)
    assert rounded.dtype == dtype
    assert torch.equal(rounded.float(), quantize(x.float(), FloatFormat(4, 3)))


def test_double_is_rounded_to_float32_first() -> None:
    x = torch.tensor([1.25 - 2.0**-40], dtype=torch.float64)
    assert quantize(x, FloatFormat(3, 1)).tolist() == [1.5]


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize(
    "x",
    [
        torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).t(),
        torch.randn(20, generator=torch.Generator().manual_seed(1))[::3],
        torch.randn(3, 1, 5, generator=torch.Generator().manual_seed(2)).expand(3, 4, 5),
        torch.tensor(0.3),
        torch.empty(0, 3),
        torch.empty(2, 0, 3, 4),
    ],
    ids=["transposed", "strided", "expanded", "scalar", "empty", "empty images"],
)
def test_any_layout_and_size(backend: Backend, x: Tensor, rounding: Rounding) -> None:
    fmt = FloatFormat(4, 2)
    rounded = quantize(x, fmt, rounding, torch.Generator().manual_seed(0), backend=backend)
    assert rounded.shape == x.shape
    assert torch.equal(quantize(rounded, fmt), rounded)
    if rounding == "nearest":
        assert torch.equal(rounded, quantize(x.contiguous(), fmt))


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_memory_formats_are_kept(backend: Backend, rounding: Rounding) -> None:
    fmt = FloatFormat(4, 2)
    images = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    last = images.to(memory_format=torch.channels_last)
    # One channel or one pixel would be contiguous either way.
    pixel = images[:, :, :1, :1].contiguous()
    turned = images.permute(1, 0, 3, 2), images[0].transpose(0, 1), images[0, 0].t()
    for x in (images, last, images[:, :1].contiguous(), pixel, *turned):
        assert quantize(x, fmt, rounding, backend=backend).stride() == x.stride()
    assert torch.equal(quantize(last, fmt, backend=backend), quantize(images, fmt))


def test_the_result_is_new_and_can_be_changed_in_place(backend: Backend) -> None:
    x = torch.ones(2, 3, 4, 4, requires_grad=True)
    for source in (x, x.to(memory_format=torch.channels_last), torch.empty(0), torch.ones(())):
        before = source.detach().clone()
        rounded = quantize(source, FloatFormat(4, 3), backend=backend)
        assert not rounded.requires_grad
        assert not rounded._is_view()
        rounded.add_(1)
        assert torch.equal(source.detach(), before)


def test_bad_arguments() -> None:
    fmt = FloatFormat(4, 3)
    with pytest.raises(
        TypeError, match=r"x must be a floating-point tensor; got dtype torch.int64"
    ):
        quantize(torch.tensor([1]), fmt)
    with pytest.raises(TypeError, match=r"complex64"):
        quantize(torch.tensor([1j]), fmt)
    with pytest.raises(ValueError, match="rounding must be 'nearest' or 'stochastic'; got 'up'"):
        quantize(torch.ones(1), fmt, "up")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError,
        match=r"backend must be 'compiled', 'eager' or 'qpytorch'; got 'eagr'\. Did you mean",
    ):
        quantize(torch.ones(1), fmt, backend="eagr")  # type: ignore[arg-type]


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("guard", ["fake tensors", "inference mode"])
def test_one_call_leaves_nothing_to_the_next(
    backend: Backend, rounding: Rounding, guard: str
) -> None:
    fmt = FloatFormat(4, 1)
    with FakeTensorMode() if guard == "fake tensors" else torch.inference_mode():
        rounded = quantize(torch.ones(4), fmt, rounding, backend=backend)
    assert isinstance(rounded, FakeTensor) == (guard == "fake tensors")
    x = torch.tensor([0.3, 1000.0], requires_grad=True)
    rounded = quantize(x, fmt, backend=backend)
    assert rounded.tolist() == [0.25, 384.0]
    torch.autograd.backward((x * rounded).sum())


def test_a_lazy_minus_is_rounded(backend: Backend) -> None:
    x = torch.tensor([1 + 0.3j, 1 - 1000j]).conj().imag
    assert x.is_neg()
    assert quantize(x, FloatFormat(4, 3), backend=backend).tolist() == [-0.3125, 480.0]


def neighbours(value: float, fmt: FloatFormat) -> tuple[float, float]:
    """The numbers of the format around a positive value that is none of them."""
    numbers = magnitudes(fmt)
    above = int(np.searchsorted(numbers, value))
    return float(numbers[above - 1]), float(numbers[above])


@pytest.mark.parametrize("fmt", [*FORMATS_A, FloatFormat(8, 7), FloatFormat(6, 11)], ids=str)
def test_stochastic_is_unbiased_between_the_neighbours(backend: Backend, fmt: FloatFormat) -> None:
    count = 20_000
    generator = torch.Generator().manual_seed(1)
    steps = 2.0**-fmt.mantissa
    for value in (
        fmt.min_subnormal * 0.1,
        fmt.min_subnormal * 1.5,
        fmt.min_normal * (1 + steps * 0.7),
        1 + steps * 0.25,
        1.9999,
    ):
        below, above = neighbours(value, fmt)
        for sign in (1, -1):
            x = torch.full((count,), sign * value)
            rounded = quantize(x, fmt, "stochastic", generator, backend=backend)
            up = rounded == sign * above
            assert bool((up | (rounded == sign * below)).all())
            chance = (value - below) / (above - below)
            assert 0 < chance < 1
            error = math.sqrt(chance * (1 - chance) / count)
            assert abs(float(up.double().mean()) - chance) < 5 * error


@pytest.mark.parametrize("fmt", FORMATS_A, ids=str)
def test_stochastic_saturates(backend: Backend, fmt: FloatFormat) -> None:
    x = torch.cat([torch.full((1000,), fmt.max * (1 + 2.0**-fmt.mantissa / 3)), patterns(1000)])
    rounded = quantize(x, fmt, "stochastic", backend=backend)
    assert bool((rounded[:1000] == fmt.max).all())
    assert float(rounded.abs().max()) == fmt.max


@pytest.mark.parametrize("fmt", TABLES, ids=str)
def test_numbers_of_the_format_are_fixed_points(backend: Backend, fmt: FloatFormat) -> None:
    numbers = magnitudes(fmt)
    x = torch.from_numpy(numbers[numbers <= FLOAT32_MAX].astype(np.float32))
    x = torch.cat([x, -x])
    for rounding in ROUNDINGS:
        rounded = quantize(x, fmt, rounding, backend=backend)
        np.testing.assert_array_equal(bits(rounded), bits(x))


def test_a_generator_decides(backend: Backend) -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    fmt = FloatFormat(4, 2)
    state = torch.random.get_rng_state()
    generator = torch.Generator().manual_seed(5)
    first = quantize(x, fmt, "stochastic", generator, backend=backend)
    second = quantize(x, fmt, "stochastic", generator, backend=backend)
    again = quantize(x, fmt, "stochastic", torch.Generator().manual_seed(5), backend=backend)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_without_a_generator_the_global_one_decides(backend: Backend) -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng([]):
        results = []
        for _ in range(2):
            torch.manual_seed(3)
            results.append(quantize(x, FloatFormat(4, 2), "stochastic", backend=backend))
        third = quantize(x, FloatFormat(4, 2), "stochastic", backend=backend)
    assert torch.equal(*results)
    assert not torch.equal(results[0], third)


@pytest.mark.parametrize("fmt", TABLES, ids=str)
def test_eager_and_compiled_are_one(fmt: FloatFormat) -> None:
    if not compiles():
        pytest.skip("torch.compile does not work here: it needs a C++ compiler")
    x = torch.cat([edges(fmt), patterns(100_000), torch.tensor([math.nan, math.inf, -0.0])])
    eager, compiled = (
        quantize(x, fmt, "stochastic", torch.Generator().manual_seed(0), backend=name)
        for name in cast(tuple[Backend, ...], ("eager", "compiled"))
    )
    np.testing.assert_array_equal(bits(eager), bits(compiled))


def random_bits(count: int, generator: torch.Generator) -> NDArray[np.uint32]:
    """What stochastic rounding adds, of which a format uses the low 23 - m bits."""
    keys = torch.randint(-(2**31), 2**31, (2,), dtype=torch.int32, generator=generator)
    drawn: Tensor = MODULE.random_bits(torch.empty(count), keys)
    return drawn.numpy().view(np.uint32)


def single_bits(words: NDArray[Any]) -> NDArray[np.uint8]:
    return np.unpackbits(words.view(np.uint8).reshape(-1, 4), axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_random_bits_are_uniform(seed: int) -> None:
    drawn = random_bits(2**18, torch.Generator().manual_seed(seed))
    for byte in drawn.view(np.uint8).reshape(-1, 4).T:
        counts = np.bincount(byte, minlength=256)
        expected = len(byte) / 256
        chi_square = float(((counts - expected) ** 2).sum() / expected)
        assert abs(chi_square - 255) < 5 * math.sqrt(2 * 255)


@pytest.mark.parametrize("seed", range(3))
def test_random_bits_are_independent(seed: int) -> None:
    """A bit agrees with that of another call, another bit and another position by chance."""
    generator = torch.Generator().manual_seed(seed)
    first, second = (random_bits(2**18, generator) for _ in range(2))
    error = 1 / math.sqrt(len(first))
    for lag in (0, 1, 7):
        apart = single_bits(first[lag:] ^ second[: len(second) - lag]).mean(axis=0)
        assert float(np.abs(apart - 0.5).max()) < 5 * error / 2
    for lag in (1, 2, 3, 16, 64, 1024):
        apart = single_bits(first[lag:] ^ first[:-lag]).mean(axis=0)
        assert float(np.abs(apart - 0.5).max()) < 5 * error / 2
    correlation = np.corrcoef(single_bits(first).T, dtype=np.float32) - np.eye(32)
    assert float(np.abs(correlation).max()) < 5 * error


def test_overlapping_streams_are_independent() -> None:
    """Two first keys that are near number the same positions; the second keys set them apart."""
    first, second = (
        MODULE.random_bits(torch.empty(2**18), torch.tensor(keys, dtype=torch.int32)).numpy()
        for keys in ([0, 1478610112], [5, -1405762875])
    )
    apart = single_bits(first[5:] ^ second[:-5]).mean(axis=0)
    assert float(np.abs(apart - 0.5).max()) < 0.01


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_part_of_a_larger_graph_rounds_the_same(rounding: Rounding) -> None:
    """Sizes that the compiler knows: its loops are unrolled, and end within a vector."""
    if not compiles():
        pytest.skip("torch.compile does not work here: it needs a C++ compiler")
    generator = torch.Generator().manual_seed(0)
    cpu = torch.device("cpu")
    tensors = [
        torch.randn(shape, generator=generator)
        for shape in [(2,), (15,), (16,), (24,), (40,), (8, 5), (3, 7, 5), (2, 6, 4, 4), (1000,)]
    ]

    def some(tensors: list[Tensor], fmt: Any, keys: Tensor | None) -> list[Tensor]:
        return [
            fmt.round(torch.relu(x), None if keys is None else keys - 99 * place)
            for place, x in enumerate(tensors)
        ]

    compiled = torch.compile(some, dynamic=False, fullgraph=True)
    for fmt in (FloatFormat(4, 3), FloatFormat(3, 1)):
        keys = MODULE.random_keys(cpu, generator) if rounding == "stochastic" else None
        arguments = tensors, TENSOR_FORMATS.on_device(fmt, cpu, rounding, "compiled"), keys
        for ours, theirs in zip(compiled(*arguments), some(*arguments), strict=True):
            assert torch.equal(ours, theirs)


def test_one_graph_serves_every_format_and_size() -> None:
    if not compiles():
        pytest.skip("torch.compile does not work here: it needs a C++ compiler")
    dynamo = importlib.import_module("torch._dynamo")
    leaf = torch.randn(5, 6, requires_grad=True)
    images = torch.randn(2, 3, 4, 5)
    tensors = [
        torch.randn(7),
        torch.randn(1000),
        torch.randn(3, 5, 2),
        images,
        images.to(memory_format=torch.channels_last),
        images[:, 1:, ::2],
        torch.randn(2, 2, 2, 2, 2),
        leaf,
        leaf * 2,
        leaf.t(),
        torch.randn(6, dtype=torch.float64),
        torch.randn(20)[::3],
        torch.tensor(0.3),
        torch.empty(0, 3),
        torch.nn.Parameter(torch.randn(64)),
    ]
    dynamo.reset()  # forget the graphs that other tests may have added
    for rounding in ROUNDINGS:
        quantize(torch.ones(64), FloatFormat(4, 3), rounding, backend="compiled")
    with dynamo.config.patch(error_on_recompile=True):
        for fmt in TABLES:
            for rounding in ROUNDINGS:
                for x in tensors:
                    quantize(x, fmt, rounding, backend="compiled")
                with torch.no_grad():
                    quantize(leaf, fmt, rounding, backend="compiled")


@pytest.mark.parametrize("fails", ["torch.compile itself", "its first call"])
def test_without_a_compiler_it_warns_once_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def refuse(*arguments: object, **options: object) -> object:
        if fails == "torch.compile itself" or "dynamic" not in options:
            raise RuntimeError("no compiler")
        return refuse

    monkeypatch.setattr(torch, "compile", refuse)
    # A cache of its own: the compiled kernels of the other tests stay where they are.
    for name in ("_failure", "_warn_once"):
        fresh = functools.cache(getattr(COMPILING, name).__wrapped__)
        monkeypatch.setattr(COMPILING, name, fresh)
    x = torch.tensor([0.3, 1000.0])
    with pytest.warns(UserWarning, match=r"torch.compile does not work here \(RuntimeError\)"):
        first = quantize(x, FloatFormat(4, 3), backend="compiled")
    # Warnings are errors: the second call has none.
    second = quantize(x, FloatFormat(4, 3), backend="compiled")
    assert first.tolist() == second.tolist() == [0.3125, 480.0]


@pytest.mark.gpu
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_cuda_rounds_as_the_cpu(backend: Backend, rounding: Rounding) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    for fmt in TABLES:
        x = torch.cat([edges(fmt)[:100_000], patterns(100_000)])
        # Keys are drawn by each device's own generator, so only "nearest" must agree.
        rounded = quantize(x.cuda(), fmt, rounding, backend=backend).cpu()
        if rounding == "nearest":
            np.testing.assert_array_equal(bits(rounded), bits(quantize(x, fmt)))
        else:
            assert torch.equal(quantize(rounded, fmt), rounded)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize(
    "name",
    [
        *("bfloat16", "float24", "float8-e4m3", "float8-e4m3@tensor", "1-4-3b4"),
        *("mxfp8-e4m3", "mxfp6-e2m3", "mxfp4", "nvfp4", "float8-e4m3@128"),
        *("int8@32x32", "int3@32", "int2@256/minmax", "dynamic8@256", "dynamic4@128"),
    ],
)
def test_cuda_rounds_every_family_as_the_cpu(name: str, rounding: Rounding) -> None:
    generator = torch.Generator().manual_seed(0)
    x, sizes = torch.randn(2, 128, 1000, generator=generator)
    x = x * (4 * sizes).exp()
    one, other = (
        quantize(
            x.cuda(), name, rounding, torch.Generator("cuda").manual_seed(0), backend=backend
        ).cpu()
        for backend in BACKENDS[:2]
    )
    np.testing.assert_array_equal(bits(one), bits(other))
    if rounding == "nearest":
        np.testing.assert_array_equal(bits(one), bits(quantize(x, name, backend="eager")))
