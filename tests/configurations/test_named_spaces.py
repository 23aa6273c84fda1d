from __future__ import annotations

import json
from pathlib import Path

import pytest

from optuna_peppp import ConfigurationSpace, Recipe
from optuna_peppp.configurations.named_spaces import named_space

HARDWARE = ConfigurationSpace.hardware()


def test_the_spaces_with_names() -> None:
    assert named_space("paper") == ConfigurationSpace.paper()
    assert named_space("hardware") == HARDWARE


def test_hardware_is_a_space_of_recipes() -> None:
    assert 80 <= len(HARDWARE) <= 150
    assert len({HARDWARE.recipe(index) for index in range(len(HARDWARE))}) == len(HARDWARE)
    params = {"activations": "mxfp4", "states": "dynamic8@256", "master": "float24"}
    expected = Recipe.hardware("mxfp4", states="dynamic8@256", master="float24")
    assert HARDWARE.recipe(HARDWARE.index(params)) == expected


def test_other_names_do_not_change_a_recipe() -> None:
    space = ConfigurationSpace({"activations": ["mxfp4"], "optimizer": ["adamw", "sgd"]})
    assert space.recipe(0) == space.recipe(1) == Recipe.hardware("mxfp4")
    paper = ConfigurationSpace.paper()
    first = paper.params(0)
    assert paper.recipe(0) == Recipe.paper(str(first["format_a"]), str(first["format_b"]))


def test_a_space_without_formats_has_no_recipe() -> None:
    for names in ({"a": [1]}, {"format_a": ["1-4-3"]}):
        with pytest.raises(ValueError, match="the space must tune format_a and format_b, or some"):
            ConfigurationSpace(names).recipe(0)
    both: dict[str, list[str]] = {
        "format_a": ["1-4-3"],
        "format_b": ["1-6-7"],
        "states": ["float32"],
    }
    with pytest.raises(ValueError, match="the space must tune"):
        ConfigurationSpace(both).recipe(0)


def test_a_space_in_a_file(tmp_path: Path) -> None:
    choices: dict[str, list[str] | list[float]] = {
        "activations": ["bfloat16", "mxfp4"],
        "learning_rate": [0.1, 0.01],
    }
    path = tmp_path / "space.json"
    path.write_text(json.dumps(choices))
    assert named_space(str(path)) == ConfigurationSpace(choices)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "must be a file of JSON"),
        ("[1]", "must hold an object of lists.*got list"),
        ('{"activations": ["mxfp5"]}', "space .*: a format must be written.*Did you mean"),
        ('{"learning_rate": [0.1]}', "must name format_a and format_b, or some of activations"),
        ('{"activations": []}', "must hold at least one value"),
    ],
)
def test_files_that_are_no_spaces(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "space.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=problem):
        named_space(str(path))


def test_a_name_that_is_none() -> None:
    with pytest.raises(
        ValueError, match=r"space must be 'paper', 'hardware', 'assignments'.*mean 'hardware'"
    ):
        named_space("hardwear")
