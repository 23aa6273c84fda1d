from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.optunahub import __main__ as script
from benchmarks.optunahub import checks
from optuna_peppp import PEPPPSampler, Recommendation


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    registry = tmp_path_factory.mktemp("registry") / "package"
    script.write(registry)
    return registry


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return script.write(tmp_path / "package")


def test_the_folder_is_as_the_registry_asks(registry: Path) -> None:
    folder = registry / script.PACKAGE
    assert checks.problems(folder) == []
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"README.md", "LICENSE", "__init__.py", "example.py", "images/frontier.png"}
    assert (folder / "example.py").read_text() in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("author:", "writer:", "author must be a text; got None"),
        ("tags: [sampler,", "tags: [pruner,", "tags must hold 'sampler'"),
        ("optuna_versions: [", "optuna_versions: [5.1, ", "optuna_versions must be a list"),
        ("license: MIT License", "license: MIT", "license must be 'MIT License'; got 'MIT'"),
        ("## Abstract", "## Summary", "section 'Abstract' is missing"),
        ("(images/frontier.png)", "(images/none.png)", "images/none.png is missing"),
        ("---\nauthor", "author", "README.md must begin with front matter"),
    ],
)
def test_what_is_wrong_is_told(folder: Path, old: str, new: str, problem: str) -> None:
    page = folder / "README.md"
    text = page.read_text()
    assert old in text
    page.write_text(text.replace(old, new))
    (found,) = checks.problems(folder)
    assert found.startswith(problem)


def test_missing_files_are_told(folder: Path) -> None:
    (folder / "LICENSE").unlink()
    (folder / "README.md").unlink()
    assert checks.problems(folder) == ["LICENSE is missing", "README.md is missing"]


def test_optunahub_loads_it(registry: Path) -> None:
    pytest.importorskip("optunahub", reason="needs optunahub, of the extra rivals")
    module = checks.loaded(registry, script.PACKAGE)
    assert module.PEPPPSampler is PEPPPSampler
    text = (registry / script.PACKAGE / "README.md").read_text()
    assert all(name in text for name in module.__all__)


def test_its_example_runs(registry: Path) -> None:
    pytest.importorskip("optunahub", reason="needs optunahub, of the extra rivals")
    names = checks.run_example(registry, script.PACKAGE)
    trials, leaves = names["study"].trials, names["leaves"]
    asked = [names["space"].index(trial.params) for trial in trials]
    assert len(set(asked)) == len(asked) == 8
    assert max(leaves[index] for index in asked) <= 1000
    found = names["peppp"].predict(names["study"], names["meta"], names["size"]).recommend(2000)
    assert isinstance(found, Recommendation)
    assert found.memory <= 2000
    # Of ten digits nine are guessed wrong.
    assert found.error < 0.3


def test_the_script_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script.main(["--output", str(tmp_path)])
    assert f"{tmp_path / 'package' / script.PACKAGE} is written." in capsys.readouterr().out
