"""What OptunaHub asks of a package's folder, and whether its registry's loader takes it."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from unittest.mock import patch

import yaml

_TEXTS: Final = ("author", "title", "description")
_LISTS: Final = ("tags", "optuna_versions")
_SECTIONS: Final = ("Abstract", "Class or Function Names", "Installation", "Example")
_FILES: Final = ("__init__.py", "LICENSE", "example.py")


def problems(folder: Path) -> list[str]:
    """What is wrong with the folder of a sampler's package, a sentence each.

    The fields and their types are those that the registry's own check of headers asks for, the
    sections those of its template.
    """
    page = folder / "README.md"
    found = [f"{name} is missing" for name in _FILES if not (folder / name).is_file()]
    if not page.is_file():
        return [*found, "README.md is missing"]
    text = page.read_text(encoding="utf-8")
    parts = re.fullmatch(r"---\n(.*?)^---\n(.*)", text, re.DOTALL | re.MULTILINE)
    if parts is None:
        return [*found, "README.md must begin with front matter between lines of ---"]
    fields = yaml.safe_load(parts[1])
    if not isinstance(fields, dict):
        return [*found, f"the front matter must be fields; got {fields!r}"]
    return [*found, *_of_fields(fields), *_of_page(parts[2], folder)]


def _of_fields(fields: dict[str, Any]) -> Iterator[str]:
    for name in _TEXTS:
        if not isinstance(fields.get(name), str):
            yield f"{name} must be a text; got {fields.get(name)!r}"
    for name in _LISTS:
        listed = fields.get(name)
        if not (isinstance(listed, list) and listed and all(isinstance(v, str) for v in listed)):
            yield f"{name} must be a list of texts; got {listed!r}"
    if "sampler" not in (fields.get("tags") or ()):
        yield "tags must hold 'sampler', as the package is in samplers/"
    if fields.get("license") != "MIT License":
        yield f"license must be 'MIT License'; got {fields.get('license')!r}"


def _of_page(body: str, folder: Path) -> Iterator[str]:
    headings = re.findall(r"^## (.*)$", body, re.MULTILINE)
    yield from (f"section {name!r} is missing" for name in _SECTIONS if name not in headings)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", body)
    if not pictures:
        yield "README.md must show a picture"
    yield from (f"{path} is missing" for path in pictures if not (folder / path).is_file())


def loaded(registry: Path, package: str) -> ModuleType:
    """The package as OptunaHub loads it from a registry on this machine; needs optunahub."""
    module: ModuleType = import_module("optunahub").load_local_module(
        package=package, registry_root=str(registry)
    )
    return module


def run_example(registry: Path, package: str) -> dict[str, Any]:
    """Runs the package's example as if the registry held it; needs optunahub.

    Returns:
        The names that it leaves.
    """
    local = partial(loaded, registry)
    with patch("optunahub.load_module", lambda *, package: local(package)):
        return runpy.run_path(str(registry / package / "example.py"), run_name="__main__")
