from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from optuna_peppp.lowprecision import ImageData, load_dataset


def arrays(count: int = 6, channels: int = 3, size: int = 4, seed: int = 0) -> dict[str, Any]:
    """The contents of a small archive in the layout of MedMNIST, labels as columns."""
    rng = np.random.default_rng(seed)
    shape = (count, size, size, channels) if channels > 1 else (count, size, size)
    return {
        "train_images": rng.integers(0, 256, shape, dtype=np.uint8),
        "train_labels": np.arange(count).reshape(-1, 1) % 3,
        "test_images": rng.integers(0, 256, shape, dtype=np.uint8),
        "test_labels": np.arange(count).reshape(-1, 1) % 3,
    }


def saved(path: Path, contents: dict[str, Any]) -> str:
    np.savez(path, **contents)
    return f"npz:{path}"


def test_resizing_by_hand(tmp_path: Path) -> None:
    contents = arrays(channels=1)
    contents["train_images"][:2] = 0
    contents["train_images"][0, 0, 0] = 240
    contents["train_images"][1] = 37
    name = saved(tmp_path / "a.npz", contents)
    images = load_dataset(name, image_size=1).train_images
    assert images.shape == (6, 1, 1, 1)
    # Shrinking four pixels to one weighs them 5 : 7 : 7 : 5, so a corner counts (5 / 24)^2.
    assert images[:2].flatten().tolist() == [round(240 * (5 / 24) ** 2), 37]
    enlarged = load_dataset(name, image_size=5).train_images
    assert set(enlarged[1].flatten().tolist()) == {37}


@pytest.mark.parametrize("channels", [1, 3])
def test_npz(tmp_path: Path, channels: int) -> None:
    contents = arrays(channels=channels)
    data = load_dataset(saved(tmp_path / "things.npz", contents))
    assert (data.name, data.num_classes, data.input_shape) == ("things", 3, (channels, 4, 4))
    for part in ("train", "test"):
        images: NDArray[np.uint8] = contents[f"{part}_images"]
        ours: Tensor = getattr(data, f"{part}_images")
        expected = images[:, None] if channels == 1 else images.transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(ours.numpy(), expected)
        assert getattr(data, f"{part}_labels").tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_npz(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.npz"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"foreign.npz is not a readable .npz file .*: write it with numpy.savez"
    ):
        load_dataset(f"npz:{path}")


def test_a_single_array_is_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    np.save(path, np.zeros(3))
    with pytest.raises(ValueError, match=r"array.npy is not a readable .npz file"):
        load_dataset(f"npz:{path}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent.npz"):
        load_dataset(f"npz:{tmp_path / 'absent.npz'}")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent"):
        load_dataset(f"folder:{tmp_path / 'absent'}")


def test_a_real_archive(shared: Path) -> None:
    data = load_dataset(f"npz:{shared / 'cifar100' / 'flowers.npz'}", image_size=16)
    assert (data.name, data.num_classes, data.input_shape) == ("flowers", 5, (3, 16, 16))
    assert data.train_labels.bincount().tolist() == [500] * 5
    assert data.test_labels.bincount().tolist() == [100] * 5


def levels(data: ImageData) -> NDArray[np.uint8]:
    """The training images, channels last."""
    return data.train_images.permute(0, 2, 3, 1).numpy()


def laid_out(shape: tuple[int, ...], **labels: Any) -> dict[str, Any]:
    """An archive with images of such a shape."""
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    numbers = np.arange(shape[0]) % 2
    return {
        "train_images": images,
        "train_labels": numbers,
        "test_images": images,
        "test_labels": numbers,
    } | labels


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((6, 8, 9), None),
        ((6, 28, 28), None),
        ((6, 3, 3), None),
        ((6, 8, 9, 1), 3),
        ((6, 8, 9, 2), 3),
        ((6, 8, 9, 3), 3),
        ((6, 8, 9, 4), 3),
        ((6, 1, 8, 9), 1),
        ((6, 3, 8, 9), 1),
        ((6, 4, 8, 8), 1),
        # Channels or pixels, both are few: a square tells, or else they come last.
        ((6, 4, 4, 3), 3),
        ((6, 3, 4, 4), 1),
        ((6, 1, 4, 4), 1),
        ((6, 3, 3, 3), 3),
        ((6, 4, 3, 2), 3),
        ((3, 3, 8, 8), 1),
    ],
    ids=str,
)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("compressed", [False, True], ids=["stored", "compressed"])
def test_layouts(
    tmp_path: Path, shape: tuple[int, ...], axis: int | None, order: str, compressed: bool
) -> None:
    contents = laid_out(shape)
    images = contents["train_images"]
    contents["train_images"] = np.asarray(images, order=order)  # type: ignore[call-overload]
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", **contents)
    data = load_dataset(f"npz:{tmp_path / 'a.npz'}")
    expected = images[:, None] if axis is None else np.moveaxis(images, axis, 1)
    np.testing.assert_array_equal(data.train_images.numpy(), expected)
    np.testing.assert_array_equal(data.test_images.numpy(), expected)


@pytest.mark.parametrize(
    "shape",
    [
        *((6,), (6, 784), (6, 28, 28, 28), (6, 64, 64, 13), (6, 5, 8, 8), (6, 3, 4, 4, 4)),
        *((6, 0, 8), (6, 8, 8, 0), (6, 0, 0, 3), (0, 8, 8), (0, 8, 8, 3)),
    ],
    ids=str,
)
def test_shapes_of_no_images(tmp_path: Path, shape: tuple[int, ...]) -> None:
    name = saved(tmp_path / "a.npz", laid_out(shape))
    message = rf"a\.npz: train_images: images must be of shape .*; got shape \({shape[0]},"
    with pytest.raises(ValueError, match=message):
        load_dataset(name)


GRAYS = np.random.default_rng(0).integers(0, 256, (6, 4, 4), dtype=np.uint8)
GRAYS[:, 0, 0] = 255
DEEP = np.random.default_rng(0).integers(0, 2**16, (6, 4, 4))
DEEP[:, 0, 0] = 2**16 - 1
SHARES = GRAYS / 255


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        *((GRAYS.astype(dtype), GRAYS) for dtype in "hHiIlLqQfd"),
        (GRAYS.astype(">u2"), GRAYS),
        *((SHARES.astype(dtype), GRAYS) for dtype in "fdg"),
        (SHARES.astype(">f4"), GRAYS),
        # Rounding errors of an interpolation.
        (SHARES * (1 + 1e-6) - 1e-7, GRAYS),
        (GRAYS + 0.25, GRAYS),
        (GRAYS > 127, np.where(GRAYS > 127, 255, 0)),
        ((GRAYS > 127).astype(float), np.where(GRAYS > 127, 255, 0)),
        # Whole numbers stay as they are, as those of scikit-learn's digits do.
        ((GRAYS // 16).astype(float), GRAYS // 16),
        (GRAYS // 16, GRAYS // 16),
        *((DEEP.astype(dtype), DEEP >> 8) for dtype in "HiIqQfd"),
        (DEEP >> 4, DEEP >> 8),
        (DEEP << 10, DEEP >> 8),
    ],
    ids=lambda pixels: f"{pixels.dtype} to {pixels.max():g}",
)
def test_pixels_of_other_types(
    tmp_path: Path, pixels: NDArray[Any], expected: NDArray[Any]
) -> None:
    contents = arrays() | {"train_images": pixels, "test_images": pixels[::-1]}
    data = load_dataset(saved(tmp_path / "a.npz", contents))
    np.testing.assert_array_equal(levels(data)[..., 0], expected)
    np.testing.assert_array_equal(data.test_images[:, 0].numpy(), expected[::-1])


def test_half_precision(tmp_path: Path) -> None:
    half = SHARES.astype(np.float16)
    contents = arrays() | {"train_images": half, "test_images": half}
    ours = levels(load_dataset(saved(tmp_path / "a.npz", contents)))[..., 0]
    np.testing.assert_allclose(ours.astype(int), GRAYS, atol=1)


def test_both_parts_have_one_range(tmp_path: Path) -> None:
    contents = arrays() | {"train_images": DEEP, "test_images": DEEP // 16}
    data = load_dataset(saved(tmp_path / "a.npz", contents))
    np.testing.assert_array_equal(data.test_images[:, 0].numpy(), DEEP >> 12)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (GRAYS - 1.0, "pixels must not be negative; got -1 to 254; scale"),
        (GRAYS.astype(int) - 128, "pixels must not be negative; got -128 to 127; scale"),
        (SHARES * 2 - 1, "pixels must not be negative; got -1 to 1; scale"),
        (SHARES * 2.6, "must lie between 0 and 1 or reach up to 255; got 0 to 2.6; scale"),
        (np.where(GRAYS == 255, np.nan, SHARES), "pixels must be finite"),
        (np.where(GRAYS == 255, np.inf, SHARES), "pixels must be finite"),
        (SHARES + 0j, "pixels must be numbers; got complex128"),
        (GRAYS.astype(str), "pixels must be numbers; got <U3"),
        (GRAYS.astype("M8[s]"), "pixels must be numbers; got datetime64"),
        (np.zeros(GRAYS.shape, [("r", "u1"), ("g", "u1")]), "pixels must be numbers; got"),
    ],
    ids=lambda value: str(getattr(value, "dtype", value)),
)
@pytest.mark.parametrize("part", ["train", "test"])
def test_pixels_that_are_none(
    tmp_path: Path, pixels: NDArray[Any], message: str, part: str
) -> None:
    name = saved(tmp_path / "a.npz", arrays(channels=1) | {f"{part}_images": pixels})
    with pytest.raises(ValueError, match=rf"a\.npz: {part}_images: .*{message}"):
        load_dataset(name)


@pytest.mark.parametrize(
    ("train", "test"), [(SHARES, GRAYS), (SHARES, GRAYS + 0.5), (DEEP, GRAYS), (DEEP, SHARES)]
)
def test_parts_of_two_ranges(tmp_path: Path, train: Any, test: Any) -> None:
    name = saved(tmp_path / "a.npz", arrays() | {"train_images": train, "test_images": test})
    with pytest.raises(ValueError, match=r"a\.npz: train_images and test_images must be of one"):
        load_dataset(name)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train_labels": None, "test_images": None}, "train_labels, test_images missing"),
        ({"train_labels": np.zeros((6, 2))}, "train_labels must hold one label per image"),
        (
            {"test_labels": np.array(3)},
            r"test_labels must hold one label per image; got shape \(\)",
        ),
        ({"test_labels": np.zeros(5)}, r"got shape \(5,\) for images of shape \(6, 4, 4, 3\)"),
        ({"test_labels": np.zeros((1, 6))}, r"got shape \(1, 6\) for images of shape \(6,"),
        ({"test_images": np.ones((6, 4, 4), np.uint8)}, "must have one shape"),
        ({"test_images": np.ones((6, 5, 4, 3), np.uint8)}, "must have one shape"),
        ({"train_labels": np.array([{}] * 6)}, "train_labels must hold .* got Python objects"),
        ({"train_images": np.array([{}] * 6)}, "train_images must hold .* got Python objects"),
        ({"train_images": np.full((6, 4, 4, 3), 7, np.uint8)}, "every pixel .* is 7"),
        ({"train_labels": np.array([0, 1, 2, 0, 1, np.nan])}, "train_labels must be classes"),
        ({"test_labels": np.array([0, 1, 2, 0, 1, 9])}, "9 of test_labels is not among 0, 1, 2"),
        ({"train_labels": [2] * 6, "test_labels": [2] * 6}, "two classes; all are 2"),
    ],
    ids=str,
)
def test_other_contents(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    contents = {k: v for k, v in (arrays() | changed).items() if v is not None}
    name = saved(tmp_path / "bad.npz", contents)
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset(name)
    assert "bad.npz" in str(caught.value)


def test_labels_are_numbered_from_zero(tmp_path: Path) -> None:
    contents = arrays(count=4)
    contents["train_labels"] = np.array([7, 40, 7, 3])  # flat is fine too
    contents["test_labels"] = np.array([[40.0], [40.0], [3.0], [7.0]])
    data = load_dataset(saved(tmp_path / "a.npz", contents))
    assert data.num_classes == 3
    assert data.train_labels.tolist() == [1, 2, 1, 0]
    assert data.test_labels.tolist() == [2, 2, 0, 1]


def npy(header: str, content: bytes = b"", version: int = 1) -> bytes:
    """A .npy file that says of itself what it likes."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text + content


def described(shape: str, dtype: str = "|u1") -> str:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (npy(described("(6, 4, 4, 3)"), b"\0" * 100), "takes .* bytes, and the file holds"),
        (npy(described("(6, 4, 4, 3)"), b"\0" * 300), "takes .* bytes, and the file holds"),
        (npy(described("(10**9, 10**9, 3)")), "is not a readable .npz file"),
        (npy(described(f"({10**12}, {10**12}, 3)")), "takes 3000000000000000000000"),
        (npy(described("(-6, 4, 4, -3)"), b"\0" * 288), "takes .* bytes, and the file holds"),
        (npy(described(f"({10**12}, 0, 3)")), "images must be of shape"),
        (npy(described("(6, 4, 4)", "|V0")), r"got \|V0|is not a readable|pixels must be numbers"),
        (npy(described("(6, 4, 4)", "nosuch")), "is not a readable .npz file"),
        (npy("{'descr': '|u1'}"), "is not a readable .npz file"),
        (npy("__import__('os').getcwd()"), "is not a readable .npz file"),
        (npy("(" * 5000), "is not a readable .npz file"),
        (b"", "is not a readable .npz file"),
        (b"no array", "is not a readable .npz file"),
        (npy(described("(6, 4, 4, 3)"), b"\0" * 288, version=9), "is not a readable .npz file"),
    ],
    ids=range(14),
)
def test_headers_that_lie(tmp_path: Path, member: bytes, message: str) -> None:
    name = saved(tmp_path / "a.npz", arrays())
    path = tmp_path / "b.npz"
    with zipfile.ZipFile(tmp_path / "a.npz") as honest, zipfile.ZipFile(path, "w") as archive:
        for info in honest.infolist():
            lies = info.filename == "train_images.npy"
            archive.writestr(info.filename, member if lies else honest.read(info))
    with pytest.raises(ValueError, match=rf"b\.npz.*({message})"):
        load_dataset(name.replace("a.npz", "b.npz"))


@pytest.mark.parametrize("where", [200, 300, 700, -200, -60])
@pytest.mark.parametrize("compressed", [False, True], ids=["stored", "compressed"])
def test_damaged_files(tmp_path: Path, where: int, compressed: bool) -> None:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays())
    content = file.getvalue()
    path = tmp_path / "a.npz"
    for damaged in (
        content[:where],
        content[:where] + b"\xff\0\xff\0" + content[where + 4 if where + 4 else None :],
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.npz"):
            load_dataset(f"npz:{path}")


def test_what_unpacks_to_too_much_is_refused_before(tmp_path: Path) -> None:
    zeros = npy(described("(100000, 64, 64)"))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for part in ("train", "test"):
            with archive.open(f"{part}_images.npy", "w", force_zip64=True) as file:
                file.write(zeros)
                for _ in range(100):
                    file.write(b"\0" * (1000 * 64 * 64))
            labels = io.BytesIO()
            np.save(labels, np.arange(100_000) % 2)
            archive.writestr(f"{part}_labels.npy", labels.getvalue())
    with pytest.raises(ValueError, match=r"train_images unpacks from .* kB to 409.6 MB"):
        load_dataset(f"npz:{tmp_path / 'a.npz'}")


def test_too_much_memory(tmp_path: Path) -> None:
    name = saved(tmp_path / "a.npz", arrays())
    with pytest.raises(
        ValueError, match=r"a.npz: train_images: .* 288 B of memory as 6 of 3x4x4, more than 287 B"
    ):
        load_dataset(name, max_bytes=287)
    assert load_dataset(name, max_bytes=288).num_classes == 3
    with pytest.raises(ValueError, match="ask for a smaller image_size"):
        load_dataset(name, image_size=10**6)


def test_a_file_may_be_named_as_shells_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "things.npz", arrays())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_dataset("npz:~/things.npz").name == "things"
    with pytest.raises(FileNotFoundError, match=f"there is no file {tmp_path}/absent.npz"):
        load_dataset("npz:~/absent.npz")
    with pytest.raises(ValueError, match=r"there is no home folder for '~nobody\.here/x.npz'"):
        load_dataset("npz:~nobody.here/x.npz")


def test_a_folder_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be a file; a folder of images is read as folder:"):
        load_dataset(f"npz:{tmp_path}")
