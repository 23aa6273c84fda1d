"""Files that appear whole or not at all; what is in archives is tested with meta-models."""

from __future__ import annotations

import errno
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.csvfile import write_lines
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.files import replacing
from optuna_peppp.meta.archive import Format, write
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.report.page import write_page


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("before")
    link.symlink_to(target)
    with replacing(link) as temporary:
        temporary.write_text("after")
    assert link.is_symlink()
    assert target.read_text() == "after"
    assert sorted(tmp_path.iterdir()) == [link, target]


@pytest.mark.parametrize("path", ["/dev/null", "/dev"])
def test_what_is_no_file_is_not_replaced(path: str) -> None:
    with pytest.raises(OSError, match="not a file that can be replaced") as caught, replacing(path):
        pytest.fail("nothing may be written")
    assert caught.value.filename == path
    assert not Path(path).is_file()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_write_that_fails_names_the_file(tmp_path: Path, code: int) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("before")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError(code, "failed")

    with pytest.raises(OSError, match=r"scores\.csv") as caught:
        fail()
    assert (caught.value.errno, caught.value.filename) == (code, str(path))
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_errors_of_other_files_keep_their_names(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"), replacing(tmp_path / "a"):
        (tmp_path / "none").read_text()


@pytest.fixture(scope="module")
def full() -> Iterator[Path]:
    """A folder on a disk of 64 kB."""
    folder = Path(tempfile.mkdtemp())
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as problem:
        folder.rmdir()
        pytest.skip(f"needs to mount a small disk: {problem}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


SPACE = ConfigurationSpace({"x": list(range(2000))})
ERRORS = np.random.default_rng(0).uniform(0, 1, (2, 2000))
LONG = [["x" * 50, 1]] * 3000
WRITERS: dict[str, Callable[[Path], None]] = {
    "lines": lambda path: write_lines(path, ["a", "b"], LONG),
    "matrix": lambda path: ErrorMatrix(SPACE, ("a", "b"), ERRORS, ERRORS + 1).write_csv(path),
    "meta-model": lambda path: MetaModel.cold(ConfigurationSpace.paper()).save(path),
    "archive": lambda path: write(path, Format("a", 1), {}, {"x": np.zeros(10**6)}),
    "page": lambda path: write_page(path, "x" * 10**6),
}


@pytest.mark.parametrize("name", WRITERS)
def test_on_a_full_disk_the_old_file_stays_and_the_message_names_it(full: Path, name: str) -> None:
    path = full / "old"
    path.write_text("before")
    with pytest.raises(OSError, match="No space left on device") as caught:
        WRITERS[name](path)
    assert caught.value.filename == str(path)
    assert path.read_text() == "before"
    assert list(full.iterdir()) == [path]


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_folder_is_named_by_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "none" / "file"
    with pytest.raises(FileNotFoundError) as caught:
        WRITERS[name](path)
    assert caught.value.filename == str(path)
