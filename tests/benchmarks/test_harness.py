"""What all benchmarks share, once."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import benchmarks
from benchmarks.harness import looks, script, tables, tasks, turns
from optuna_peppp import load_corpus

RIVALS = ("benchmarks.samplers.rivals.", "benchmarks.optunahub.peppp.")
"""Import packages of their own extra, and have neither examples nor scripts."""

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks.")
    if not module.name.startswith(RIVALS)
)
SCRIPTS = [name for name in MODULES if hasattr(importlib.import_module(name), "main")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_has_quick_and_is_in_the_readme(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(name).main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "--quick" in shown
    assert "--output" in shown
    assert f"python -m {name}" in shown
    assert f"`{name.removeprefix('benchmarks.')}`" in (script.BENCHMARKS / "README.md").read_text()


def test_quick_runs_leave_the_results_of_full_ones_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "RESULTS", tmp_path)
    monkeypatch.setattr(script, "QUICK", tmp_path / "quick")
    parser = script.parser("what", "less")
    found = [
        script.folder(parser.parse_args(arguments), "speed")
        for arguments in ([], ["--quick"], ["--quick", "--output", str(tmp_path / "own")])
    ]
    assert found == [tmp_path / "speed", tmp_path / "quick" / "speed", tmp_path / "own"]
    assert all(folder.is_dir() for folder in found)


def test_results_have_one_stem(tmp_path: Path) -> None:
    results = script.Results(tmp_path, "ask")
    results.table([{"a": 1, "b": "x, y"}, {"a": 2.5}], "part")
    assert results.path("csv", "part").read_bytes() == b'a,b\n1,"x, y"\n2.5,\n'
    assert results.read("part") == [{"a": "1", "b": "x, y"}, {"a": "2.5", "b": ""}]
    assert results.read() == []
    figure, _ = looks.panels(1, 1)
    results.picture(figure)
    assert results.path("png").read_bytes().startswith(b"\x89PNG")
    results.record({"seed": 3, "optuna": "mine"}, ["moocore", "no-such-package"])
    record = json.loads(results.path("json").read_text())
    assert (record["seed"], record["optuna"], record["numpy"]) == (3, "mine", np.__version__)
    assert (record["no-such-package"], record["cores"].isdigit()) == (None, True)
    assert {path.name for path in tmp_path.iterdir()} == {"ask_part.csv", "ask.png", "ask.json"}


def test_means_of_one_value_have_no_error() -> None:
    mean, error = tables.mean_and_error([0.5])
    assert mean == 0.5
    assert np.isnan(error)


@pytest.mark.parametrize(("count", "limit", "taken"), [(5, 1e9, 5), (5, 0.0, 3), (2, 0.0, 2)])
def test_turns_end_with_the_time_but_not_before_the_least(
    count: int, limit: float, taken: int
) -> None:
    order: list[str] = []
    calls = {name: partial(order.append, name) for name in "abc"}
    found = turns.take_turns(calls, count, seed=0, limit=limit, least=3)
    assert {name: len(own) for name, own in found.items()} == dict.fromkeys("abc", taken)
    each = [order[3 * turn : 3 * turn + 3] for turn in range(taken)]
    assert all(set(turn) == set("abc") for turn in each)
    if taken == 5:
        assert len({tuple(turn) for turn in each}) > 1


def test_tasks_come_back_in_their_order() -> None:
    # Of a built-in type, so that processes need not import this module.
    outcomes = {row: [row, 2 * row] for row in (1, 2, 3)}.__getitem__
    assert tasks.over_tasks(outcomes, [3, 1, 2], 2) == [3, 6, 1, 2, 2, 4]
    with pytest.raises(KeyError, match="7"):
        tasks.over_tasks(outcomes, [7], 1)


def test_paired_differences_by_hand() -> None:
    values = {
        ("x", 1): {"a": 0.2, "b": 0.6},
        ("rule", 1): {"a": 0.1, "b": 0.3},
    }
    found = dict(tasks.paired(values, lambda key: [("less", ("rule", 1)), ("none", ("y", 1))]))
    assert found["x", 1]["mean"] == pytest.approx(0.4)
    assert found["x", 1]["less"] == pytest.approx(0.2)
    # Differences 0.1 and 0.3: deviation 0.1 root 2, over root 2.
    assert found["x", 1]["less_standard_error"] == pytest.approx(0.1)
    assert found["rule", 1]["less"] == 0
    assert found["x", 1]["tasks"] == 2
    assert "none" not in found["x", 1]


def test_some_tasks_of_a_matrix() -> None:
    corpus = load_corpus("plain3-cifar100")
    some = tasks.rows_of(corpus, [2, 0])
    assert some.tasks == (corpus.tasks[2], corpus.tasks[0])
    np.testing.assert_array_equal(some.errors, corpus.errors[[2, 0]])
    assert tasks.complete_rows(corpus) == list(range(20))
