from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from benchmarks.corpora import facts, facts_page, hardware, repeat, variance
from benchmarks.harness import tables
from benchmarks.harness.script import RESULTS, Results
from optuna_peppp import ConfigurationSpace, ErrorMatrix
from optuna_peppp.corpora.catalog import read_table
from optuna_peppp.corpora.table import CorpusTable

KEPT = RESULTS / "corpora" / "plain3-cifar100"
FORMATS: dict[str, list[Any]] = {
    "format_a": ["1-3-1", "1-4-1", "1-4-3"],
    "format_b": ["1-6-7", "1-6-9", "1-7-7", "1-8-7"],
}
SETTINGS = {"epochs": "6", "rounding": "nearest", "batch_size": "32", "image_size": "16"}


def matrix_of(names: dict[str, list[Any]] = FORMATS, tasks: int = 5) -> ErrorMatrix:
    """Errors of rank 2 with noise; memory that grows with the configuration."""
    rng = np.random.default_rng(0)
    space = ConfigurationSpace(names)
    signal = rng.uniform(0.2, 0.8, (tasks, 2)) @ rng.uniform(0.2, 0.6, (2, len(space)))
    errors = np.clip(signal + rng.normal(0, 0.02, signal.shape), 0, 1).round(4)
    memory = np.tile(np.arange(1, len(space) + 1) * 1e6, (tasks, 1))
    return ErrorMatrix(space, tuple(f"task {i}" for i in range(tasks)), errors, memory)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    tables.write(path, rows)
    return path


def rows_of(matrix: ErrorMatrix, seed: int = 0, **changed: str) -> list[dict[str, Any]]:
    """A collected corpus, row by row."""
    return [
        {
            "task": matrix.tasks[i],
            "model": "plain3",
            **matrix.space.params(j),
            "error": matrix.errors[i, j],
            "memory": int(matrix.memory[i, j]),
            "seed": seed,
            **SETTINGS,
            "diverged": int(j == 0),
            "seconds": 1.5,
            **changed,
        }
        for i, j in np.argwhere(matrix.observed).tolist()
    ]


def run(path: Path | str, output: Path, *arguments: str) -> None:
    facts.main([str(path), "--output", str(output), *arguments])


# Variance


def test_known_effects_come_apart() -> None:
    space = ConfigurationSpace(FORMATS)
    a, b = np.array([-0.1, 0.0, 0.1]), np.array([-0.03, -0.01, 0.01, 0.03])
    # Orthogonal to both main effects: rows and columns add up to nothing.
    ab = 0.02 * np.outer([1, -2, 1], [1, -1, -1, 1])
    errors = 0.5 + a[:, None] + b + ab
    sums = variance.sums_of_squares(space, errors.reshape(1, 12))
    assert sums["format_a"] == pytest.approx(4 * 0.02)
    assert sums["format_b"] == pytest.approx(3 * 0.002)
    assert sums["interaction"] == pytest.approx(0.02**2 * 6 * 4)
    assert variance.degrees_of_freedom(space) == {
        "format_a": 2,
        "format_b": 3,
        "interaction": 6,
    }


@given(st.integers(0, 1000))
def test_a_third_name_has_a_main_effect_of_its_own(seed: int) -> None:
    space = ConfigurationSpace({**FORMATS, "learning_rate": [0.1, 0.01]})
    errors = np.random.default_rng(seed).uniform(0, 1, (3, 24))
    sums = variance.sums_of_squares(space, errors)
    totals = 24 * errors.var(axis=1)
    np.testing.assert_allclose(np.sum(list(sums.values()), axis=0), totals)
    assert sum(variance.degrees_of_freedom(space).values()) == 23
    # Oracle: what a regression on the levels of one name explains.
    for name, values in space.choices.items():
        indicators = np.zeros((24, len(values)))
        for level, value in enumerate(values):
            indicators[space.matching({name: value}), level] = 1
        for row, found in zip(errors, sums[name], strict=True):
            fitted = indicators @ np.linalg.lstsq(indicators, row, rcond=None)[0]
            assert found == pytest.approx(((fitted - row.mean()) ** 2).sum())


def test_noise_of_pairs_by_hand() -> None:
    noise = variance.Noise.of([[0.1, 0.2], [0.5, 0.5], [0.4, 0.1]])
    # Half the mean squared difference.
    assert noise.variance == pytest.approx((0.01 + 0 + 0.09) / 3 / 2)
    assert noise.entries == 3
    # The largest resample draws the largest difference three times.
    assert 0 <= noise.low < noise.variance < noise.high <= 0.045 + 1e-12


def test_the_estimate_of_the_noise_is_unbiased_and_its_interval_holds() -> None:
    rng = np.random.default_rng(3)
    sigma = 0.02
    estimates, held = [], 0
    for _ in range(200):
        truth = rng.uniform(0.2, 0.8, (50, 1))
        found = variance.Noise.of((truth + rng.normal(0, sigma, (50, 2))).tolist())
        estimates.append(found.variance)
        held += found.low <= sigma**2 <= found.high
    error = np.std(estimates) / np.sqrt(200)
    assert np.mean(estimates) == pytest.approx(sigma**2, abs=3 * error)
    assert error < 0.02 * sigma**2
    assert held / 200 > 0.85


def both_tables(tmp_path: Path, repeats: list[dict[str, Any]]) -> tuple[CorpusTable, CorpusTable]:
    corpus = write_rows(tmp_path / "corpus.csv", rows_of(matrix_of()))
    again = write_rows(tmp_path / "again.csv", repeats)
    return read_table(str(corpus)), read_table(str(again))


def test_repeats_find_their_entries(tmp_path: Path) -> None:
    matrix = matrix_of()
    chosen = rows_of(matrix, seed=1)[7:9]
    groups = variance.repeated(
        *both_tables(tmp_path, [*chosen, chosen[0] | {"seed": 2}]), matrix.space
    )
    first, second = matrix.errors[0, [7, 8]].tolist()
    assert groups == [[first] * 3, [second] * 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 0}, "a seed of its own; got 0, 0"),
        ({"epochs": 7}, "epochs is 7 here and 6 in the corpus"),
        ({"task": "another"}, "holds this one 0 times"),
    ],
)
def test_what_is_no_repeat_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    repeats = [rows_of(matrix_of(), seed=1)[3] | change]
    with pytest.raises(ValueError, match=message):
        variance.repeated(*both_tables(tmp_path, repeats), matrix_of().space)


def test_without_seeds_there_are_no_repeats(tmp_path: Path) -> None:
    row = rows_of(matrix_of())[0]
    del row["seed"]
    with pytest.raises(ValueError, match="the column seed is missing"):
        variance.repeated(*both_tables(tmp_path, [row]), matrix_of().space)


# Hardware


def test_marginal_counts_by_hand() -> None:
    space = ConfigurationSpace({"format_a": ["1-3-1", "1-4-1"], "format_b": ["1-6-7", "1-7-7"]})
    memory = np.tile([1.0, 2, 3, 4], (2, 1))
    # Task a: 0, then 2; task b: all but 2, which is as good as 1 and larger.
    errors = np.array([[0.5, 0.6, 0.4, 0.4], [0.5, 0.4, 0.4, 0.3]])
    marked = hardware.on_frontier(ErrorMatrix(space, ("a", "b"), errors, memory))
    np.testing.assert_array_equal(marked, [[1, 0, 1, 0], [1, 1, 0, 1]])
    assert hardware.marginal_counts(space, marked) == [
        ("format_a", "1-3-1", 3, 2),
        ("format_a", "1-4-1", 2, 2),
        ("format_b", "1-6-7", 3, 2),
        ("format_b", "1-7-7", 2, 1),
    ]


def test_near_best_by_hand() -> None:
    space = ConfigurationSpace({"format_a": ["1-3-1", "1-4-1", "1-4-3"]})
    corpus = ErrorMatrix(
        space, ("a",), np.array([[0.5, 0.505, 0.4]]), np.array([[10.0, 15.0, 20.0]])
    )
    good = hardware.near_best(corpus, 0.005)
    # The second is allowed from half way on, the third at the last cap only.
    np.testing.assert_array_equal(good[:4], [[1, 0, 0]] * 4)
    np.testing.assert_array_equal(good[4:9], [[1, 1, 0]] * 5)
    np.testing.assert_array_equal(good[9:], [[0, 0, 1]])


@given(st.integers(0, 10_000))
def test_no_smaller_set_will_do(seed: int) -> None:
    rng = np.random.default_rng(seed)
    good = rng.uniform(size=(12, 7)) < 0.4
    good[np.arange(12), rng.integers(7, size=12)] = True
    memory = rng.uniform(0, 1, 7)
    found = tuple(hardware.smallest_set(good, memory).tolist())
    enough = [
        chosen
        for size in range(1, 8)
        for chosen in itertools.combinations(range(7), size)
        if good[:, chosen].any(axis=1).all()
    ]
    assert found == min(enough, key=lambda chosen: (len(chosen), memory[list(chosen)].sum()))


# The tables, the pictures, the page


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "small.csv", rows_of(matrix_of()))


@pytest.fixture
def repeats(tmp_path: Path) -> Path:
    rows = rows_of(matrix_of(), seed=1)[::4]
    for number, row in enumerate(rows):
        row["error"] += 0.01 * (-1) ** number
    return write_rows(tmp_path / "repeats.csv", rows)


def test_the_tables_hold_what_oracles_compute(corpus: Path, repeats: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out", "--repeats", str(repeats))
    matrix, out = matrix_of(), tmp_path / "out"

    def read(part: str = "") -> list[dict[str, str]]:
        return Results(out, "small").read(part)

    found = {row["fact"]: row["value"] for row in read()}
    assert (found["tasks"], found["configurations"], found["diverged"]) == ("5", "12", "5")
    assert found["format_b"] == "1-6-7, 1-6-9, 1-7-7, 1-8-7"
    assert found["training time"].endswith("1.5 s a training in the median")

    squares = np.linalg.svd(matrix.errors)[1] ** 2
    shares = [float(row["errors"]) for row in read("singular_values")]
    np.testing.assert_allclose(shares, (squares / squares.sum())[:4], rtol=1e-5)
    centering = [np.eye(n) - 1 / n for n in (5, 12)]
    values = np.linalg.svd(centering[0] @ matrix.errors @ centering[1])[1][:4] ** 2
    shares = [float(row["main_effects_removed"]) for row in read("singular_values")]
    np.testing.assert_allclose(shares, values / values.sum(), rtol=1e-5)

    assert len(read("tau")) == 5
    for row in read("tau"):
        for name in matrix.tasks:
            a, b = (matrix.errors[matrix.tasks.index(task)] for task in (row["task"], name))
            assert float(row[name]) == pytest.approx(kendalltau(a, b).statistic, abs=5e-5)

    (noise,) = read("noise")
    assert noise["entries"] == "15"
    assert float(noise["variance"]) == pytest.approx(0.01**2 / 2)
    within = matrix.errors.var(axis=1, ddof=1).mean()
    assert float(noise["share"]) == pytest.approx(0.01**2 / 2 / within, rel=1e-5)
    effects = read("variance")
    assert sum(float(row["share"]) for row in effects) == pytest.approx(1, abs=1e-5)
    # Everything net of noise, and the noise, is everything.
    net = sum(float(row["net_of_noise"]) for row in effects)
    assert net + float(noise["share"]) == pytest.approx(1, abs=1e-5)

    names = {" / ".join(map(str, matrix.space.params(j).values())): j for j in range(12)}
    for tolerance in ("0.005", "0.01", "0.02"):
        chosen = [
            names[row["configuration"]]
            for row in read("smallest_sets")
            if row["tolerance"] == tolerance
        ]
        assert hardware.near_best(matrix, float(tolerance))[:, chosen].any(axis=1).all()
    counts = {row["configuration"]: int(row["nondominated"]) for row in read("frontier")}
    marked = hardware.on_frontier(matrix).sum(axis=0)
    assert {names[name]: count for name, count in counts.items()} == dict(enumerate(marked))

    evaluated = {(row["strategy"], row["measurements"]) for row in read("evaluation")}
    assert evaluated == set(itertools.product(["bayesian", "ed-mf"], ["1", "3", "6"]))
    for picture in ("singular_values", "tau"):
        assert (out / f"small_{picture}.png").read_bytes().startswith(b"\x89PNG")
        assert f"(small_{picture}.png)" in (out / "small.md").read_text()


def test_the_page_comes_from_its_tables_alone(corpus: Path, repeats: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out", "--repeats", str(repeats))
    alone = tmp_path / "alone"
    alone.mkdir()
    for table in (tmp_path / "out").glob("*.csv"):
        shutil.copy(table, alone)
    facts_page.write_page(Results(alone, "small"))
    assert (alone / "small.md").read_bytes() == (tmp_path / "out" / "small.md").read_bytes()


def test_the_page_that_is_kept_is_that_of_its_tables(tmp_path: Path) -> None:
    for table in KEPT.glob("*.csv"):
        shutil.copy(table, tmp_path)
    facts_page.write_page(Results(tmp_path, KEPT.name))
    assert (tmp_path / f"{KEPT.name}.md").read_bytes() == (KEPT / f"{KEPT.name}.md").read_bytes()


def test_effects_below_the_noise_are_called_so() -> None:
    effects = {"format_a": (2, "0.9"), "format_b": (3, "0.02"), "interaction": (6, "0.08")}
    rows = [
        {
            "effect": name,
            "degrees_of_freedom": str(degrees),
            "share": share,
            "net_of_noise": str(float(share) - degrees / 11 * 0.11),
        }
        for name, (degrees, share) in effects.items()
    ]
    # Of noise 0.11 the interaction's degrees of freedom take 0.06, of 0.165 they take 0.09.
    found = facts_page.judged(rows, 0.11)
    assert (found["above"], found["within"]) == ("Format A, interaction", "Format B")
    assert facts_page.judged(rows, 0.165)["within"] == "Format B, interaction"
    assert found["negative"]


def test_without_repeats_the_page_claims_no_noise(
    corpus: Path, repeats: Path, tmp_path: Path
) -> None:
    run(corpus, tmp_path / "out", "--repeats", str(repeats))
    run(corpus, tmp_path / "out")
    assert not (tmp_path / "out" / "small_noise.csv").exists()
    page = (tmp_path / "out" / "small.md").read_text()
    assert "The interaction holds the noise: nothing was repeated." in page
    assert "seed's deviation" not in page


def test_tasks_with_gaps_are_left_out_and_named(tmp_path: Path) -> None:
    matrix = matrix_of()
    errors = matrix.errors.copy()
    errors[1, 3] = np.nan
    partial = ErrorMatrix(matrix.space, matrix.tasks, errors, matrix.memory)
    run(write_rows(tmp_path / "gaps.csv", rows_of(partial)), tmp_path / "out")
    page = (tmp_path / "out" / "gaps.md").read_text()
    assert "| tasks | 4 |" in page
    assert "| tasks left out, as entries are missing | task 1 |" in page


def test_too_few_complete_tasks_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix = matrix_of()
    errors = matrix.errors.copy()
    errors[:3, 0] = np.nan
    partial = ErrorMatrix(matrix.space, matrix.tasks, errors, matrix.memory)
    path = write_rows(tmp_path / "gaps.csv", rows_of(partial))
    with pytest.raises(SystemExit):
        run(path, tmp_path / "out")
    assert "at least three tasks with every error and memory known; 2 of 5" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def test_a_task_on_which_all_err_alike_has_no_tau(tmp_path: Path) -> None:
    matrix = matrix_of()
    errors = matrix.errors.copy()
    errors[2] = 0.5
    constant = ErrorMatrix(matrix.space, matrix.tasks, errors, matrix.memory)
    run(write_rows(tmp_path / "flat.csv", rows_of(constant)), tmp_path / "out")
    assert "nan" not in (tmp_path / "out" / "flat.md").read_text()


def test_a_learning_rate_is_an_effect_of_its_own(tmp_path: Path) -> None:
    matrix = matrix_of({**FORMATS, "learning_rate": [0.01, 0.1]})
    run(write_rows(tmp_path / "lr.csv", rows_of(matrix)), tmp_path / "out")
    page = (tmp_path / "out" / "lr.md").read_text()
    assert "| learning rate | frontier points, of" in page
    assert "- Choose interaction" not in page
    effects = [row["effect"] for row in Results(tmp_path / "out", "lr").read("variance")]
    assert effects == ["format_a", "format_b", "learning_rate", "interaction"]


@pytest.mark.slow
def test_the_authors_learning_rates(shared: Path, tmp_path: Path) -> None:
    run(shared / "peppp" / "corpus-lr.csv", tmp_path, "--quick")
    found = {row["fact"]: row["value"] for row in Results(tmp_path, "corpus-lr").read()}
    assert found["configurations"] == "297"
    assert found["tasks"] == "6"
    assert found["tasks left out, as entries are missing"].count("CIFAR100") == 3


# Repeating


def test_the_draw_is_fixed_and_repeats_nothing() -> None:
    table = read_table("plain3-cifar100")
    drawn = repeat.draw(table, 50)
    assert drawn == repeat.draw(table, 50)
    assert len({repeat.entry_of(row.fields) for row in drawn}) == 50
    assert drawn[:20] != table.rows[:20]
    with pytest.raises(ValueError, match="between 1 and the corpus' 1980; got 1981"):
        repeat.draw(table, 1981)


def test_a_corpus_must_tell_how_it_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "bare.csv"
    matrix_of().write_csv(path)
    with pytest.raises(ValueError, match="it lacks model, learning_rate, seed, epochs"):
        repeat.draw(read_table(str(path)), 2)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What was trained, task and seed, in place of training it."""
    trained: list[tuple[str, int]] = []

    def measure(row: Any, seed: int, data: Path) -> dict[str, str]:
        trained.append((row.task, seed))
        fields: dict[str, str] = row.fields
        return fields | {"seed": str(seed)}

    monkeypatch.setattr(repeat, "measure", measure)
    return trained


def collected(tmp_path: Path) -> CorpusTable:
    rows = [row | {"learning_rate": 0.001} for row in rows_of(matrix_of())]
    columns = ("task", "model", "format_a", "format_b", "learning_rate")
    ordered = [{name: row[name] for name in columns} | row for row in rows]
    return read_table(str(write_rows(tmp_path / "collected.csv", ordered)))


def test_an_interrupted_run_goes_on(measured: list[tuple[str, int]], tmp_path: Path) -> None:
    table, path = collected(tmp_path), tmp_path / "repeats.csv"
    repeat.repeat(table, 6, 1, tmp_path, Results(tmp_path, "repeats"))
    assert [seed for _, seed in measured] == [0] * 5 + [1] * 6
    assert path.read_text().startswith(",".join(table.columns))
    whole = path.read_text()
    record = json.loads(path.with_suffix(".json").read_text())
    assert (record["reproduced"], record["numpy"]) == (5, np.__version__)

    lines = whole.splitlines(keepends=True)
    path.write_text("".join(lines[:-2]))
    measured.clear()
    repeat.repeat(table, 6, 1, tmp_path, Results(tmp_path, "repeats"))
    assert [seed for _, seed in measured] == [0] * 5 + [1] * 2
    assert path.read_text() == whole
    measured.clear()
    repeat.repeat(table, 6, 1, tmp_path, Results(tmp_path, "repeats"))
    assert measured == []


def test_errors_that_do_not_come_out_again_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measure(row: Any, seed: int, data: Path) -> dict[str, str]:
        other = {"seed": str(seed)} | ({"error": "0.9999"} if row.task != "task 0" else {})
        fields: dict[str, str] = row.fields
        return fields | other

    monkeypatch.setattr(repeat, "measure", measure)
    path = tmp_path / "repeats.csv"
    table = collected(tmp_path)
    repeat.repeat(table, 6, 1, tmp_path, Results(tmp_path, "repeats"))
    record = json.loads(path.with_suffix(".json").read_text())
    same = sum(row.task == "task 0" for row in repeat.draw(table, 6)[:5])
    assert (record["tried"], record["reproduced"]) == (5, same)
    told = facts.code_of(path)
    assert f"{same} of 5 tried" in told.values()


def test_what_is_kept_was_drawn_from_the_corpus_that_ships() -> None:
    kept = KEPT / "repeats.csv"
    drawn = repeat.draw(read_table("plain3-cifar100"), 50)
    rows = read_table(str(kept)).rows
    assert [repeat.entry_of(row.fields) for row in rows] == [
        repeat.entry_of(row.fields) for row in drawn
    ]
    assert {row.fields["seed"] for row in rows} == {"1"}
    corpus = read_table("plain3-cifar100")
    assert len(variance.repeated(corpus, read_table(str(kept)), corpus.space())) == 50
