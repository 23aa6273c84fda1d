from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import optuna
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from optuna.trial import TrialState, create_trial

from optuna_peppp.configurations.cost import Cost
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.prediction import Prediction
from optuna_peppp.studies.baseline import Baseline
from optuna_peppp.studies.results import predict
from optuna_peppp.visualization import (
    frontier,
    plot_embeddings,
    plot_error_matrix,
    plot_frontier,
    plot_regret_history,
)

SPACE = ConfigurationSpace({"format_a": ["1-3-1", "1-4-1"], "learning_rate": [0.1, 0.01]})
MEMORY = np.array([3e6, 1e6, 2e6, 4e6])
RNG = np.random.default_rng(0)


def study_of(
    measured: Iterable[tuple[int, float]], space: ConfigurationSpace = SPACE, name: str = "tune"
) -> optuna.Study:
    """A study with a completed trial for every configuration and error."""
    study = optuna.create_study(study_name=name, directions=["minimize", "minimize"])
    for index, error in measured:
        study.add_trial(
            create_trial(
                params=space.params(index),
                distributions=dict(space.distributions()),
                values=[error, 1.0],
            )
        )
    return study


def meta_of(space: ConfigurationSpace, tasks: int = 5, rank: int | None = None) -> MetaModel:
    base = RNG.uniform(0.2, 0.8, len(space))
    errors = np.clip(base + RNG.normal(0, 0.05, (tasks, len(space))), 0, 1)
    names = tuple(f"task {number}" for number in range(tasks))
    return MetaModel.fit(ErrorMatrix(space, names, errors, np.ones(errors.shape)), rank=rank)


def trace(figure: go.Figure, name: str) -> Any:
    (found,) = (trace for trace in figure.data if trace.name == name)
    return found


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> MetaModel:
    """Makes the study's prediction one whose frontier and quantiles are known by hand."""
    # Draw i of 21 adds i thousandths to the predicted errors, so that the central 90% is from 1
    # to 19 thousandths.
    means = np.array([0.2, 0.5, 0.3, 0.4])
    measured = np.array([True, False, False, True])
    draws = means + np.where(measured, 0, np.arange(21)[:, None] / 1000)
    std = np.where(measured, 0, 0.006)
    prediction = Prediction(SPACE, Cost(MEMORY), means, std, measured, draws)
    monkeypatch.setattr(frontier, "predict", lambda study, meta, memory: prediction)
    return meta_of(SPACE)


def test_frontier_by_hand(by_hand: MetaModel) -> None:
    figure = plot_frontier(study_of([]), by_hand, MEMORY, memory_cap="2.5MB")
    # By growing memory 1, 2, 0 are the frontier; it goes on to 5% beyond the range of memory.
    steps = [1e6, 2e6, 3e6, 4.15e6]
    high, low = figure.data[:2]
    for line, errors in (
        (high, [0.519, 0.319, 0.2, 0.2]),
        (low, [0.501, 0.301, 0.2, 0.2]),
        (trace(figure, "Frontier"), [0.5, 0.3, 0.2, 0.2]),
    ):
        np.testing.assert_allclose(line.x, steps)
        np.testing.assert_allclose(line.y, errors)
        assert line.line.shape == "hv"
    assert (low.name, low.fill) == ("90% band", "tonexty")
    measured = trace(figure, "Measured")
    assert (list(measured.x), list(measured.y)) == ([3e6, 4e6], [0.2, 0.4])
    predicted = trace(figure, "Predicted")
    assert (list(predicted.x), list(predicted.y)) == ([1e6, 2e6], [0.5, 0.3])
    recommended = trace(figure, "Recommended")
    assert (list(recommended.x), list(recommended.y)) == ([2e6], [0.3])
    assert list(figure.layout.xaxis.range) == [0.85e6, 4.15e6]


def test_hover_tells_configuration_error_and_memory(by_hand: MetaModel) -> None:
    figure = plot_frontier(study_of([]), by_hand, MEMORY, memory_cap="2.5MB")
    assert trace(figure, "Measured").text[0] == (
        "format_a: 1-3-1<br>learning_rate: 0.1<br>error: 0.2000<br>memory: 3 MB"
    )
    predicted = (
        "format_a: 1-4-1<br>learning_rate: 0.1<br>error: 0.3000 (90%: 0.3010 to 0.3190)"
        "<br>memory: 2 MB"
    )
    assert trace(figure, "Predicted").text[1] == predicted
    # Every draw has it the best of the two that are allowed.
    assert trace(figure, "Recommended").text == (
        f"{predicted}<br>within 0.01 of the best allowed: 100%",
    )


def test_errors_far_apart_are_drawn_on_a_logarithmic_axis() -> None:
    means = np.array([0.2, 0.5, 0.0, 0.04])
    draws = np.broadcast_to(means, (3, 4))
    measured = np.array([True, False, False, True])
    prediction = Prediction(SPACE, Cost(MEMORY), means, np.zeros(4), measured, draws)
    figure = frontier.draw(prediction, baseline=Baseline(0.03, 9e6))
    assert figure.layout.yaxis.type == "log"
    assert list(figure.layout.yaxis.ticktext) == ["0.02", "0.05", "0.1", "0.2", "0.5", "1"]
    # None has a logarithm; it is told as it is.
    predicted = trace(figure, "Predicted")
    assert list(predicted.y) == [0.5, 0.02]
    assert "error: 0.0000" in predicted.text[1]
    line = trace(figure, "float32, 9 MB")
    assert (list(line.x), list(line.y)) == ([1e6, 4.15e6], [0.03, 0.03])
    near = np.array([0.2, 0.5, 0.3, 0.11])
    prediction = Prediction(SPACE, Cost(MEMORY), near, np.zeros(4), measured, draws)
    assert frontier.draw(prediction).layout.yaxis.type is None


def test_the_baseline_of_the_study_is_drawn(by_hand: MetaModel) -> None:
    study = study_of([])
    study.set_user_attr("optuna_peppp_baseline", {"error": 0.25, "memory": 5e6})
    assert list(trace(plot_frontier(study, by_hand, MEMORY), "float32, 5 MB").y) == [0.25, 0.25]


@pytest.mark.parametrize("cap", ["2.5MB", 2.5e6])
def test_the_cap_is_a_line(by_hand: MetaModel, cap: str | float) -> None:
    figure = plot_frontier(study_of([]), by_hand, MEMORY, memory_cap=cap)
    (line,) = figure.layout.shapes
    assert (line.x0, line.x1) == (2.5e6, 2.5e6)
    (label,) = figure.layout.annotations
    assert label.text == "cap 2.5 MB"


@pytest.mark.parametrize("cap", [None, "4MB", "1TB"])
def test_a_cap_that_forbids_nothing_is_not_drawn(by_hand: MetaModel, cap: str | None) -> None:
    figure = plot_frontier(study_of([]), by_hand, MEMORY, memory_cap=cap)
    assert not figure.layout.shapes
    assert list(trace(figure, "Recommended").x) == [3e6]


def test_a_cap_below_every_memory(by_hand: MetaModel) -> None:
    with pytest.raises(ValueError, match="memory_cap must be at least 1000000 bytes"):
        plot_frontier(study_of([]), by_hand, MEMORY, memory_cap="1kB")


@pytest.mark.parametrize(
    "space",
    [
        ConfigurationSpace.paper(),
        ConfigurationSpace({**ConfigurationSpace.paper().choices, "learning_rate": [0.1, 0.01, 1]}),
        ConfigurationSpace({"format_a": ["1-4-3"]}),
    ],
    ids=len,
)
@pytest.mark.parametrize("measured", [0, 1])
def test_frontier_is_that_of_the_prediction(space: ConfigurationSpace, measured: int) -> None:
    meta, study = meta_of(space), study_of([(0, 0.25)] * measured, space)
    memory = RNG.uniform(1e8, 2e8, len(space))
    prediction = predict(study, meta, memory)
    figure = plot_frontier(study, meta, memory)
    steps = trace(figure, "Frontier")
    np.testing.assert_array_equal(steps.x[:-1], memory[prediction.frontier])
    np.testing.assert_array_equal(steps.y[:-1], prediction.mean[prediction.frontier])
    # A logarithmic axis ends at half of the smallest error, and the band with it.
    floor = prediction.mean.min() / 2 if figure.layout.yaxis.type == "log" else 0
    band = np.maximum(prediction.band, floor)
    np.testing.assert_array_equal([t.y[:-1] for t in figure.data[1::-1]], band)
    assert len(trace(figure, "Measured").x) == measured
    assert len(trace(figure, "Predicted").x) == len(space) - measured


def test_error_matrix() -> None:
    errors = np.array([[0.1, np.nan, 0.3, 0.4], [0.5, 0.6, 0.7, np.nan]])
    matrix = ErrorMatrix(SPACE, ("1", "a<b>"), errors, np.ones((2, 4)))
    figure = plot_error_matrix(matrix)
    (heatmap,) = figure.data
    np.testing.assert_array_equal(heatmap.z, errors)
    assert list(heatmap.x) == ["1-3-1 / 0.1", "1-3-1 / 0.01", "1-4-1 / 0.1", "1-4-1 / 0.01"]
    # As text, not as a number and not as markup.
    assert list(heatmap.y) == ["1", "a&lt;b&gt;"]
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "category"
    assert figure.layout.xaxis.title.text == "format_a / learning_rate"
    assert figure.layout.xaxis.dtick == 2
    assert heatmap.hoverongaps is False


@pytest.mark.parametrize(
    ("models", "rows"),
    [
        (("plain3", "vgg11"), ["a (plain3)", "a (vgg11)"]),
        (("plain3", "plain3"), ["a", "b"]),
    ],
)
def test_error_matrix_names_networks_that_differ(models: tuple[str, str], rows: list[str]) -> None:
    tasks = ("a", "a") if models[0] != models[1] else ("a", "b")
    matrix = ErrorMatrix(SPACE, tasks, np.full((2, 4), 0.5), np.ones((2, 4)), models)
    assert list(plot_error_matrix(matrix).data[0].y) == rows


@pytest.mark.parametrize(("tasks", "height"), [(1, 450), (20, 520), (500, 1600)])
def test_error_matrix_grows_with_its_tasks(tasks: int, height: int) -> None:
    names = tuple(f"t{number}" for number in range(tasks))
    matrix = ErrorMatrix(SPACE, names, np.full((tasks, 4), 0.5), np.ones((tasks, 4)))
    assert plot_error_matrix(matrix).layout.height == height


@pytest.mark.parametrize(
    ("choices", "stride"),
    [
        (ConfigurationSpace.paper().choices, 9),
        ({**ConfigurationSpace.paper().choices, "learning_rate": (0.1, 0.01, 0.001)}, 27),
        ({"configuration": range(24)}, 1),
        ({"configuration": range(87)}, 4),
        ({"format_a": ("1-4-3",)}, 1),
    ],
)
def test_few_configurations_are_named(choices: dict[str, Any], stride: int) -> None:
    space = ConfigurationSpace(choices)
    matrix = ErrorMatrix(space, ("a",), np.full((1, len(space)), 0.5), np.ones((1, len(space))))
    assert plot_error_matrix(matrix).layout.xaxis.dtick == stride
    assert len(space) / stride <= 24


def test_an_empty_error_matrix() -> None:
    matrix = ErrorMatrix(SPACE, ("a",), np.full((1, 4), np.nan), np.ones((1, 4)))
    with pytest.raises(ValueError, match="matrix must hold at least one measured error"):
        plot_error_matrix(matrix)


def test_embeddings() -> None:
    meta = meta_of(SPACE, rank=2)
    figure = plot_embeddings(meta)
    (points,) = figure.data
    np.testing.assert_array_equal(points.x, meta.embeddings[:, 0])
    np.testing.assert_array_equal(points.y, meta.embeddings[:, 1])
    np.testing.assert_array_equal(points.marker.color, meta.mean)
    assert points.text[3] == (
        f"format_a: 1-4-1<br>learning_rate: 0.01<br>mean error: {meta.mean[3]:.4f}"
    )
    assert figure.layout.yaxis.title.text == "Embedding 2"


def test_embeddings_of_rank_one() -> None:
    meta = meta_of(SPACE, rank=1)
    figure = plot_embeddings(meta)
    np.testing.assert_array_equal(figure.data[0].x, meta.embeddings[:, 0])
    np.testing.assert_array_equal(figure.data[0].y, meta.mean)
    assert figure.layout.yaxis.title.text == "Mean error"


# Memory scaled to [0, 1] is 0, .1, .2, 1, and the reference (1.05, 1).
REGRET_MEMORY = np.array([10.0, 20.0, 30.0, 110.0])
REGRET_ERRORS = np.array([0.9, 0.5, 0.4, 0.1])
# (.1, .5) dominates .95 * .5, (1, .1) another .05 * .4 and (0, .9) another .1 * .1; (.2, .4)
# would add .8 * .1.
ORDER = [(1, 0.5), (3, 0.1), (0, 0.9)]
LACKING = np.array([0.03, 0.01, 0.0])


def regrets(figure: go.Figure) -> list[NDArray[np.float64]]:
    for line in figure.data:
        assert list(line.x) == list(range(1, len(line.y) + 1))
    return [np.array(line.y) for line in figure.data]


def test_regret_of_one_study() -> None:
    figure = plot_regret_history(study_of(ORDER), SPACE, REGRET_MEMORY)
    (line,) = regrets(figure)
    np.testing.assert_allclose(line, LACKING, atol=1e-15)
    assert figure.layout.showlegend is False


def test_regret_against_the_truth() -> None:
    # What was measured with noise counts with its true error.
    noisy = study_of([(1, 0.45), (3, 0.2), (0, 0.95)])
    (line,) = regrets(plot_regret_history(noisy, SPACE, REGRET_MEMORY, errors=REGRET_ERRORS))
    np.testing.assert_allclose(line, LACKING + 0.08, atol=1e-15)


def test_regret_against_everything_that_all_studies_measured() -> None:
    studies = [study_of(ORDER, name="a"), study_of([(2, 0.4)], name="b"), study_of([], name="c")]
    first, second, third = regrets(plot_regret_history(studies, SPACE, REGRET_MEMORY))
    np.testing.assert_allclose(first, LACKING + 0.08, atol=1e-15)
    np.testing.assert_allclose(second, [0.585 - 0.85 * 0.6], atol=1e-15)
    assert len(third) == 0


def test_regret_averages_repeats() -> None:
    again = study_of([(1, 0.6), (3, 0.1), (1, 0.4), (0, 0.9)])
    (line,) = regrets(plot_regret_history(again, SPACE, REGRET_MEMORY))
    np.testing.assert_allclose(line, [0.03, 0.01, 0.01, 0.0], atol=1e-15)


def test_regret_counts_completed_trials_only() -> None:
    study = study_of(ORDER[:1])
    for state in (TrialState.FAIL, TrialState.RUNNING):
        study.add_trial(
            create_trial(
                state=state, params=SPACE.params(2), distributions=dict(SPACE.distributions())
            )
        )
    study.add_trials(study_of(ORDER[1:]).trials)
    (line,) = regrets(plot_regret_history(study, SPACE, REGRET_MEMORY))
    np.testing.assert_allclose(line, LACKING, atol=1e-15)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1)), max_size=6),
        min_size=1,
        max_size=3,
    ).filter(any)
)
def test_regret_never_grows_and_is_none_where_all_was_measured(
    runs: list[list[tuple[int, float]]],
) -> None:
    everything = [pair for run in runs for pair in run]
    studies = [study_of(run) for run in (*runs, everything)]
    lines = regrets(plot_regret_history(studies, SPACE, MEMORY))
    for line in lines:
        assert (np.diff(line) <= 1e-12).all()
        assert (line >= -1e-12).all()
    assert lines[-1][-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["tpe-0", "ours-0", "tpe-1"], ["tpe", "ours", "tpe"]),
        (["tune-1", "tune-2"], ["tune-1", "tune-2"]),
        (["1", "2"], ["1", "2"]),
        (["a<b>", "c"], ["a&lt;b&gt;", "c"]),
    ],
)
def test_seeds_of_a_sampler_share_color_and_legend(names: list[str], groups: list[str]) -> None:
    studies = [study_of(ORDER, name=name) for name in names]
    figure = plot_regret_history(studies, SPACE, REGRET_MEMORY)
    assert [line.name for line in figure.data] == groups
    assert figure.layout.showlegend is True
    shown = [line.name for line in figure.data if line.showlegend]
    assert shown == list(dict.fromkeys(groups))
    looks = {line.name: (line.line.color, line.line.dash) for line in figure.data}
    assert len(set(looks.values())) == len(looks)
    for line in figure.data:
        assert (line.line.color, line.line.dash) == looks[line.name]


def test_many_studies_look_different() -> None:
    studies = [study_of(ORDER, name=f"sampler {letter}") for letter in "abcdefghijklmnopqrst"]
    figure = plot_regret_history(studies, SPACE, REGRET_MEMORY)
    assert len({(line.line.color, line.line.dash) for line in figure.data}) == 20


@pytest.mark.parametrize("studies", [[], [study_of([])]], ids=["no study", "no trial"])
def test_regret_of_nothing(studies: list[optuna.Study]) -> None:
    with pytest.raises(ValueError, match="studies must hold at least one completed trial"):
        plot_regret_history(studies, SPACE, MEMORY)


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        ([0.5, 0.5], r"errors must have shape \(4,\)"),
        ([0.5, 0.5, np.nan, 0.5], r"errors\[2\] is nan"),
        ([0.5, 50, 0.5, 0.5], r"errors\[1\] is 50"),
    ],
)
def test_true_errors_are_checked(errors: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_regret_history(study_of(ORDER), SPACE, MEMORY, errors=errors)


@pytest.mark.parametrize(
    "plot",
    [
        lambda: plot_frontier(study_of([]), meta_of(SPACE), MEMORY),
        lambda: plot_error_matrix(ErrorMatrix(SPACE, ("a",), np.ones((1, 4)), np.ones((1, 4)))),
        lambda: plot_embeddings(meta_of(SPACE)),
        lambda: plot_regret_history(study_of(ORDER), SPACE, MEMORY),
    ],
)
def test_without_plotly(plot: Callable[[], go.Figure], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("plotly", "plotly.graph_objects"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pip install "optuna_peppp\[visualization\]"'):
        plot()


def test_figures_can_be_shown() -> None:
    # plotly checks property names when it builds a figure, and values when it draws it.
    meta = meta_of(SPACE)
    matrix = ErrorMatrix(SPACE, ("a",), np.ones((1, 4)), np.ones((1, 4)))
    for figure in (
        plot_frontier(study_of([]), meta, MEMORY),
        plot_error_matrix(matrix),
        plot_embeddings(meta),
        plot_regret_history(study_of(ORDER), SPACE, MEMORY),
    ):
        assert isinstance(figure, go.Figure)
        assert figure.layout.title.text
        assert figure.layout.xaxis.title.text
        assert figure.layout.yaxis.title.text
        assert figure.to_json()
