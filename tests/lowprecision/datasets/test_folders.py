from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from optuna_peppp.lowprecision import ImageData, load_dataset


def write_images(folder: Path, layout: str, size: int = 4) -> str:
    """Images in the folders of a layout such as ``"ape bat"``, two each unless ``=n`` says it.

    The first has gray 1 everywhere, the next 2 and so on.
    """
    gray = itertools.count(1)
    for words in layout.split():
        name, _, count = words.partition("=")
        (folder / name).mkdir(parents=True, exist_ok=True)
        for _ in range(int(count or 2)):
            value = next(gray)
            Image.new("RGB", (size, size), (value,) * 3).save(folder / name / f"{value:03}.png")
    return f"folder:{folder}"


def grays(data: ImageData) -> tuple[list[int], list[int]]:
    """The images to train and to test on by the gray that they are filled with."""
    parts = data.train_images, data.test_images
    return tuple(part.amax((1, 2, 3)).tolist() for part in parts)  # type: ignore[return-value]


def test_a_folder_is_split_by_class(tmp_path: Path) -> None:
    name = write_images(tmp_path / "zoo", "ape=20 bat=40")
    data = load_dataset(name, test_fraction=0.25)
    assert (data.name, data.num_classes, data.input_shape) == ("zoo", 2, (3, 4, 4))
    train, test = grays(data)
    assert sorted(train + test) == list(range(1, 61))
    # A quarter of either class, with its labels.
    assert data.test_labels.tolist() == [int(gray > 20) for gray in test]
    assert data.train_labels.tolist() == [int(gray > 20) for gray in train]
    assert (len(test), sum(gray > 20 for gray in test)) == (15, 10)
    # The split is the seed's.
    assert grays(load_dataset(name, test_fraction=0.25))[1] == test
    assert sorted(grays(load_dataset(name, test_fraction=0.25, seed=1))[1]) != sorted(test)


@pytest.mark.parametrize("sides", [None, 2], ids=str)
@pytest.mark.parametrize(
    ("train", "test"),
    [
        *itertools.product(["train", "Train", "TRAINING"], ["test", "Testing", "VAL", "valid"]),
        ("training", "validation"),
    ],
)
def test_parts(tmp_path: Path, train: str, test: str, sides: int | None) -> None:
    layout = f"{train}/ape {train}/bat=1 {test}/ape=1 {test}/bat"
    data = load_dataset(write_images(tmp_path / "zoo", layout), image_size=sides)
    assert (data.name, data.num_classes) == ("zoo", 2)
    assert grays(data) == ([1, 2, 3], [4, 5, 6])
    assert (data.train_labels.tolist(), data.test_labels.tolist()) == ([0, 0, 1], [0, 1, 1])


def test_a_validation_part_beside_a_test_part_is_left_out(tmp_path: Path) -> None:
    layout = "train/ape train/bat val/ape val/bat test/ape test/bat"
    assert grays(load_dataset(write_images(tmp_path, layout))) == ([1, 2, 3, 4], [9, 10, 11, 12])


@pytest.mark.parametrize("train", ["train", "Training"])
def test_without_a_part_to_test_on_one_is_drawn(tmp_path: Path, train: str) -> None:
    name = write_images(tmp_path / "zoo", f"{train}/ape=4 {train}/bat=4")
    drawn, whole = load_dataset(name), load_dataset(f"{name}/{train}")
    assert (drawn.name, whole.name) == ("zoo", train)
    assert grays(drawn) == grays(whole)
    assert drawn.num_classes == 2
    assert len(drawn.test_labels) == 2


@pytest.mark.parametrize(
    ("layout", "classes"),
    [
        # A train is a thing, too; so is a test.
        ("bus=3 car=3 train=3", 3),
        ("Train=3 bus=3", 2),
        ("crash=3 test=3 Training=3", 3),
        # Images of a class may lie in folders of it.
        ("ape/2019=2 ape/2020=2 bat/2021=3", 2),
        ("ape=2 ape/more=2 bat=2 bat/more=2", 2),
        ("ape=3 bat=3 .git .ipynb_checkpoints __MACOSX/ape @eaDir", 2),
        ("ape=3 ape/.ipynb_checkpoints bat=3 bat/__MACOSX", 2),
        ("train/ape=3 train/bat=3 .git annotations=0 __MACOSX/train/ape", 2),
    ],
)
def test_classes(tmp_path: Path, layout: str, classes: int) -> None:
    data = load_dataset(write_images(tmp_path, layout), test_fraction=0.4)
    assert data.num_classes == classes
    seen = sum(int(n or 2) for word in layout.split() for _, _, n in [word.partition("=")])
    hidden = 2 * sum("." in word or "__" in word or "@" in word for word in layout.split())
    assert len(data.train_labels) + len(data.test_labels) == seen - hidden


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("", "there is no folder"),
        (".git", "there is no folder"),
        ("empty=0", "there is no image in 'empty'"),
        ("ape bat cat=0", "there is no image in 'cat'"),
        ("ape bat .=1 cat/.hidden", "there is no image in 'cat'"),
        ("ape", "there is one class only, 'ape'"),
        ("train/ape test/ape", "there is one class only, 'ape'"),
        ("train test", "'test', 'train' hold images, but no folder per class"),
        ("train", "'train' hold images, but no folder per class"),
        ("train/ape train/bat test", "it holds 'train' beside 'test'"),
        ("train/ape train/bat ape bat", "it holds 'train' beside 'ape', 'bat'"),
        ("train/ape train/bat test/ape test/bat extra", "'test', 'train' beside 'extra'"),
        ("train/ape train/bat training/ape training/bat", "are two of a kind"),
        ("train/ape Train/ape test/ape", "'Train', 'train' are two of a kind"),
        ("train/ape val/ape valid/ape", "'val', 'valid' are two of a kind"),
        ("val/ape val/bat test/ape test/bat", "it holds 'test', 'val', but nothing to train on"),
        ("zoo/ape zoo/bat", "'zoo' hold folders in turn, 'ape', 'bat', and either could be"),
        ("fold1/ape fold1/bat fold2/ape fold2/bat", "'fold1', 'fold2' hold folders in turn"),
        ("ape/train ape/test bat/train bat/test", "'ape', 'bat' hold folders in turn"),
        ("train/train/ape train/train/bat test/test/ape", "'train' hold folders in turn"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path: Path, layout: str, message: str) -> None:
    name = write_images(tmp_path / "zoo", layout or ".=0")
    with pytest.raises(
        ValueError, match=rf"zoo\S* must hold a folder of images per class.*{message}"
    ):
        load_dataset(name)


@pytest.mark.parametrize("other", ["test/cat=1", "test/ape=1 test/bat=1 test/cat=1", "test/bat=1"])
def test_another_test_part(tmp_path: Path, other: str) -> None:
    name = write_images(tmp_path, f"train/ape train/bat test/ape=1 {other}")
    if other == "test/bat=1":
        assert load_dataset(name).num_classes == 2
        return
    with pytest.raises(ValueError, match=r"train and test must hold the same classes; got .*'cat'"):
        load_dataset(name)


@pytest.mark.parametrize("name", ["._1.png", ".DS_Store", "Thumbs.db", ".1.png", "notes.txt", "a"])
def test_files_that_are_no_images(tmp_path: Path, name: str) -> None:
    data_set = write_images(tmp_path, "train/ape train/bat test/ape test/bat")
    (tmp_path / "train" / "ape" / name).write_bytes(b"\0\5\26\7 not an image")
    assert grays(load_dataset(data_set)) == ([1, 2, 3, 4], [5, 6, 7, 8])


@pytest.mark.parametrize("suffix", ["PNG", "Jpg", "gif", "tiff", "webp", "bmp", "ppm"])
def test_images_of_several_formats(tmp_path: Path, suffix: str) -> None:
    name = write_images(tmp_path, "train/ape train/bat=1 test/ape test/bat")
    gray = Image.new("RGB", (4, 4), (200,) * 3)
    gray.save(tmp_path / "train" / "bat" / f"9.{suffix}", lossless=True, quality=100)
    assert grays(load_dataset(name))[0] == [1, 2, 3, 200]


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    name = write_images(tmp_path, "ape=3 bat=3")
    (tmp_path / "bat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    with pytest.raises(ValueError, match=r"broken\.png is not a readable image"):
        load_dataset(name)


def test_images_of_several_sizes_need_a_size(tmp_path: Path) -> None:
    write_images(tmp_path / "zoo", "ape=3")
    name = write_images(tmp_path / "zoo", "bat=3", size=6)
    with pytest.raises(ValueError, match="zoo holds images of several sizes: name an image size"):
        load_dataset(name)
    data = load_dataset(name, image_size=4)
    assert data.input_shape == (3, 4, 4)


def test_too_few_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zoo: 4 images in 2 classes, 1 in the smallest, cannot"):
        load_dataset(write_images(tmp_path / "zoo", "ape=3 bat=1"))


def test_links_in_a_circle(tmp_path: Path) -> None:
    name = write_images(tmp_path, "train/ape train/bat test/ape test/bat")
    (tmp_path / "train" / "ape" / "again").symlink_to(tmp_path / "train" / "ape")
    (tmp_path / "train" / "ape" / "up").symlink_to(tmp_path)
    assert grays(load_dataset(name))[0] == [1, 2, 3, 4]
    # A link to elsewhere is followed.
    write_images(tmp_path / "elsewhere", "more=1")
    (tmp_path / "elsewhere").rename(tmp_path.with_name("elsewhere"))
    (tmp_path / "train" / "bat" / "linked").symlink_to(tmp_path.with_name("elsewhere"))
    assert grays(load_dataset(name))[0] == [1, 2, 3, 4, 1]


def test_a_folder_may_be_named_as_shells_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "zoo", "train/ape train/bat test/ape test/bat")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "zoo" / "train")
    for name in ("folder:~/zoo", "folder:..", f"folder:{tmp_path}/zoo/"):
        data = load_dataset(name)
        assert (data.name, grays(data)) == ("zoo", ([1, 2, 3, 4], [5, 6, 7, 8]))


def test_a_folder_of_images_that_are_all_alike(tmp_path: Path) -> None:
    for kind in ("ape", "bat"):
        (tmp_path / kind).mkdir()
        for number in range(4):
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / kind / f"{number}.png")
    with pytest.raises(ValueError, match="must hold images; every pixel of those to train on is 0"):
        load_dataset(f"folder:{tmp_path}")
