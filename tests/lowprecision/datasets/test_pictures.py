from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from optuna_peppp.lowprecision.datasets import pictures
from optuna_peppp.lowprecision.datasets.images import MAX_BYTES
from optuna_peppp.lowprecision.datasets.pictures import SUFFIXES, read_pictures

RANDOM = np.random.default_rng(0)
GRAY = RANDOM.integers(0, 256, (6, 8), dtype=np.uint8)
COLOR = RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8)
PALETTE = RANDOM.integers(0, 256, (256, 3), dtype=np.uint8)
HIDDEN = RANDOM.integers(0, 2, (6, 8), dtype=np.uint8).astype(bool)
ALPHA = np.where(HIDDEN, 0, 255).astype(np.uint8)
DEEP = RANDOM.integers(0, 2**16, (6, 8), dtype=np.uint16)
DEEP[0, 0] = 2**16 - 1


def colored(gray: NDArray[Any]) -> NDArray[np.uint8]:
    return np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2)


def on_white(color: NDArray[Any]) -> NDArray[Any]:
    return np.where(HIDDEN[..., None], 255, color)


def with_palette() -> Image.Image:
    image = Image.fromarray(GRAY)
    image.putpalette(PALETTE.tobytes())
    return image


def read(*paths: Path, image_size: int | None = None) -> NDArray[np.uint8]:
    """(n, height, width, 3) of the files, as one part."""
    (images,) = read_pictures(paths[0].parent, [paths], image_size, MAX_BYTES)
    return images.permute(0, 2, 3, 1).numpy()


MODES: dict[str, tuple[Image.Image, str, NDArray[Any], dict[str, Any]]] = {
    "1": (Image.fromarray(GRAY > 127), "png", colored(np.where(GRAY > 127, 255, 0)), {}),
    "L": (Image.fromarray(GRAY), "png", colored(GRAY), {}),
    "L, one gray transparent": (
        Image.fromarray(GRAY),
        "png",
        colored(np.where(GRAY[0, 0] == GRAY, 255, GRAY)),
        {"transparency": int(GRAY[0, 0])},
    ),
    "LA": (Image.fromarray(np.dstack([GRAY, ALPHA])), "png", on_white(colored(GRAY)), {}),
    "P": (with_palette(), "png", PALETTE[GRAY], {}),
    "P, one color transparent": (
        with_palette(),
        "png",
        np.where((GRAY[0, 0] == GRAY)[..., None], 255, PALETTE[GRAY]),
        {"transparency": int(GRAY[0, 0])},
    ),
    "P of a GIF": (with_palette(), "gif", PALETTE[GRAY], {}),
    "PA": (with_palette().convert("PA"), "tif", PALETTE[GRAY], {}),
    "RGB": (Image.fromarray(COLOR), "png", COLOR, {}),
    "RGB, one color transparent": (
        Image.fromarray(COLOR),
        "png",
        np.where((COLOR[0, 0] == COLOR).all(2)[..., None], 255, COLOR),
        {"transparency": tuple(COLOR[0, 0].tolist())},
    ),
    "RGBA": (Image.fromarray(np.dstack([COLOR, ALPHA])), "png", on_white(COLOR), {}),
    "RGBX": (Image.fromarray(COLOR).convert("RGBX"), "tif", COLOR, {}),
    "CMYK": (
        Image.fromarray(np.dstack([255 - COLOR, np.zeros_like(GRAY)]), "CMYK"),
        "tif",
        COLOR,
        {},
    ),
    "LAB": (Image.fromarray(colored(GRAY)).convert("LAB"), "tif", colored(GRAY), {}),
    "YCbCr": (Image.fromarray(colored(GRAY)).convert("YCbCr"), "tif", colored(GRAY), {}),
    "I;16": (Image.fromarray(DEEP), "png", colored(DEEP >> 8), {}),
    "I;16 of 12 bits": (Image.fromarray(DEEP >> 4), "png", colored(DEEP >> 8), {}),
    "I;16 of 8 bits": (Image.fromarray(GRAY.astype(np.uint16)), "png", colored(GRAY), {}),
    "I;16B": (Image.fromarray(DEEP.astype(">u2")), "tif", colored(DEEP >> 8), {}),
    "I;16 of a PGM": (Image.fromarray(DEEP.astype(np.int32)), "pgm", colored(DEEP >> 8), {}),
    "I": (Image.fromarray(DEEP.astype(np.int32) << 4), "tif", colored(DEEP >> 8), {}),
    "F to 1": (
        Image.fromarray((GRAY / np.float32(255)).astype(np.float32)),
        "tif",
        colored(GRAY),
        {},
    ),
    "F to 255": (Image.fromarray(GRAY.astype(np.float32)), "tif", colored(GRAY), {}),
    "F to 65535": (Image.fromarray(DEEP.astype(np.float32)), "tif", colored(DEEP >> 8), {}),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode(tmp_path: Path, name: str) -> None:
    image, suffix, expected, options = MODES[name]
    path = tmp_path / f"a.{suffix}"
    image.save(path, **options)
    # Other spaces of color have other levels, a few of which meet in one.
    close = {"LAB": 4, "YCbCr": 1}.get(name, 0)
    np.testing.assert_allclose(read(path)[0].astype(int), expected, rtol=0, atol=close)


def test_the_modes_are_those_that_files_have(tmp_path: Path) -> None:
    opened = set()
    for name, (image, suffix, _, options) in MODES.items():
        path = tmp_path / f"{name}.{suffix}"
        image.save(path, **options)
        with Image.open(path) as file:
            opened.add(file.mode)
    assert opened >= {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"}
    assert opened >= {"I", "I;16", "I;16B", "F"}


def png(path: Path, header: bytes, rows: bytes) -> Path:
    """A PNG from its header and its rows, for what Pillow does not write."""
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        check = zlib.crc32(kind + data)
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
    path.write_bytes(content)
    return path


def test_color_of_16_bits(tmp_path: Path) -> None:
    deep = RANDOM.integers(0, 2**16, (6, 8, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    path = png(tmp_path / "a.png", struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0), rows)
    np.testing.assert_array_equal(read(path)[0], deep >> 8)


def test_gray_and_color_in_one_folder(tmp_path: Path) -> None:
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    Image.fromarray(COLOR).save(tmp_path / "b.png")
    Image.fromarray(DEEP).save(tmp_path / "c.png")
    read_back = read(*(tmp_path / f"{name}.png" for name in "abc"))
    np.testing.assert_array_equal(read_back, [colored(GRAY), COLOR, colored(DEEP >> 8)])


def test_one_factor_for_all_deep_images(tmp_path: Path) -> None:
    paths = [tmp_path / "bright.png", tmp_path / "dark.png"]
    for path, values in zip(paths, (DEEP, DEEP // 16), strict=True):
        Image.fromarray(values).save(path)
    parts = read_pictures(tmp_path, [paths[:1], paths[1:]], None, MAX_BYTES)
    dark = parts[1].permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(dark[0], colored(DEEP >> 12))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path: Path, orientation: int) -> None:
    turned = {
        1: COLOR,
        2: COLOR[:, ::-1],
        3: COLOR[::-1, ::-1],
        4: COLOR[::-1],
        5: COLOR.transpose(1, 0, 2),
        6: np.rot90(COLOR, -1),
        7: np.rot90(COLOR, 2).transpose(1, 0, 2),
        8: np.rot90(COLOR),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOR).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read(tmp_path / "a.png")[0], turned[orientation])


def test_further_pictures_of_a_camera_are_left_out(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (8, 8), (gray,) * 3) for gray in (40, 200))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.n_frames == 2  # type: ignore[attr-defined]
    assert np.unique(read(tmp_path / "a.jpg")).tolist() == [40]


def several(path: Path) -> None:
    frames = [Image.fromarray(GRAY), Image.fromarray(255 - GRAY), Image.fromarray(GRAY // 2)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def truncated(path: Path) -> None:
    Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def bomb(side: int, path: Path) -> None:
    png(path, struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0), b"\0" * 1000)


BAD: dict[str, tuple[str, Any, str]] = {
    "a TIFF of three": ("tif", several, "it holds 3 pictures; split it"),
    "a GIF of three": ("gif", several, "it holds 3 pictures; split it"),
    "a PNG of three": ("png", several, "it holds 3 pictures; split it"),
    "text": ("png", lambda path: path.write_text("no image"), "its format is unknown"),
    "empty": ("jpg", lambda path: path.write_bytes(b""), "its format is unknown"),
    "truncated": ("png", truncated, ""),
    "truncated JPEG": ("jpg", truncated, "truncated"),
    "large": ("png", lambda path: bomb(9000, path), "9000x9000 pixels, more than 67108864"),
    "of a warning": ("png", lambda path: bomb(10_000, path), "10000x10000 pixels, more than"),
    "of an error": ("png", lambda path: bomb(60_000, path), "3600000000 pixels"),
    "gone": ("png", lambda path: path.symlink_to("nowhere.png"), "No such file"),
    "NaN": ("tif", lambda path: Image.fromarray(np.full((4, 4), np.nan, "f")).save(path), "finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_named(tmp_path: Path, name: str) -> None:
    suffix, write, message = BAD[name]
    Image.fromarray(GRAY).save(tmp_path / "good.png")
    path = tmp_path / f"bad.{suffix}"
    write(path)
    with pytest.raises(ValueError, match=rf"bad\.{suffix} is not a readable image: .*{message}"):
        read(tmp_path / "good.png", path, image_size=4)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((4, 4), -5, np.int32), "of mode I: pixels must not be negative; got -5 to -5"),
        (np.full((4, 4), -5, np.float32), "of mode F: pixels must not be negative; got -5 to -5"),
        (np.full((4, 4), 2.6, np.float32), "of mode F: .* between 0 and 1 .* got 2.6 to 2.6"),
    ],
    ids=str,
)
def test_pixels_of_an_unclear_range(tmp_path: Path, pixels: NDArray[Any], message: str) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.tif")


def test_several_sizes_need_a_size(tmp_path: Path) -> None:
    Image.new("L", (8, 6)).save(tmp_path / "a.png")
    Image.new("L", (6, 8)).save(tmp_path / "b.png")
    paths = tmp_path / "a.png", tmp_path / "b.png"
    message = r"several sizes: name an image size; .*a.png has 6x8 pixels and .*b.png has 8x6"
    with pytest.raises(ValueError, match=message):
        read(*paths)
    assert read(*paths, image_size=5).shape == (2, 5, 5, 3)


def test_too_much_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    monkeypatch.setattr(pictures, "_decoded", None)
    with pytest.raises(ValueError, match=r"would take 36 B of memory as 3 of 3x2x2, more than 35"):
        read_pictures(tmp_path, [[tmp_path / "a.png"] * 3], 2, 35)


def test_suffixes_are_what_pillow_opens() -> None:
    assert set(SUFFIXES) <= Image.registered_extensions().keys()
