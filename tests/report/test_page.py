"""The page that ``tune --report`` writes."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from optuna.trial import create_trial
from plotly.offline import get_plotlyjs

from optuna_peppp.configurations.assignments import Rule
from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.layers import Layer, Layers
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.meta.prior import TaskPrior
from optuna_peppp.report.page import as_page, write_page
from optuna_peppp.studies.results import predict

SPACE = ConfigurationSpace({"format_a": ["1-3-1", "1-4-1"], "learning_rate": [0.1, 0.01]})
MEMORY = np.array([3e6, 1e6, 2e6, 4e6])
FIGURES = ("frontier", "regret", "errors", "embeddings")


class Page(HTMLParser):
    """What a page holds; refuses elements that are not closed in the order of their opening."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.rows: list[list[str]] = []
        self.chosen: list[list[str]] = []
        self.ids: set[str] = set()
        self.linked: list[str] = []
        self.open: list[str] = []
        self.feed(content)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag != "meta":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
            if attributes.get("class") == "chosen":
                self.chosen.append(self.rows[-1])
        self.ids.update(value for name, value in attrs if name == "id" and value)
        self.linked.extend(name for name in attributes if name in ("src", "href"))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["script"]:
            self.text.append(data)
        if self.open[-1:] in (["td"], ["th"]):
            self.rows[-1].append(data)


def traces(page: str, name: str) -> list[dict[str, Any]]:
    """The traces of a figure of the page."""
    start = page.index("[", page.index(f'"{name}",', page.index("Plotly.newPlot(")))
    found: list[dict[str, Any]] = json.JSONDecoder().raw_decode(page[start:])[0]
    return found


def numbers(array: dict[str, str]) -> NDArray[np.float64]:
    """An array as plotly writes it."""
    return np.frombuffer(base64.b64decode(array["bdata"]), array["dtype"])


def meta_of(tasks: tuple[str, ...]) -> MetaModel:
    """A meta-model of three tasks, which may have the same name."""
    errors = np.array([[0.2, 0.4, 0.3, 0.1], [0.4, 0.8, 0.6, 0.2], [0.1, 0.2, 0.1, 0.1]])
    matrix = ErrorMatrix(SPACE, tasks, errors, np.ones((3, 4)), ("x", "y", "z"))
    return MetaModel.fit(matrix, rank=2)


def study_of() -> optuna.Study:
    """A study that measured two configurations."""
    study = optuna.create_study(directions=["minimize", "minimize"])
    for index, error in ((0, 0.15), (2, 0.1)):
        study.add_trial(
            create_trial(
                params=SPACE.params(index),
                distributions=dict(SPACE.distributions()),
                values=[error, float(MEMORY[index])],
            )
        )
    return study


def page_of(
    title: str = "title",
    settings: dict[str, object] | None = None,
    tasks: tuple[str, ...] = ("a", "b", "c"),
    meta: MetaModel | None = None,
    memory_cap: str | None = None,
    layers: Layers | None = None,
) -> str:
    """The page of a study that measured two configurations."""
    meta, study = meta or meta_of(tasks), study_of()
    return as_page(
        study,
        meta,
        predict(study, meta, MEMORY),
        title=title,
        settings=settings or {},
        memory_cap=memory_cap,
        layers=layers,
    )


def test_what_has_no_choice_is_a_setting() -> None:
    space = ConfigurationSpace({"format_a": ["1-3-1", "1-4-1"], "format_b": ["1-6-9"]})
    meta, study = MetaModel.cold(space), optuna.create_study(directions=["minimize"] * 2)
    study.add_trial(
        create_trial(
            params=space.params(0),
            distributions=dict(space.distributions()),
            values=[0.25, 1e6],
        )
    )
    prediction = predict(study, meta, [1e6, 2e6])
    page = Page(as_page(study, meta, prediction, title="t", settings={"epochs": 6}))
    assert page.rows[0] == ["format_a", "memory", "error"]
    assert page.rows[-2:] == [["format b", "1-6-9"], ["epochs", "6"]]


def test_an_assignment_is_a_strip_by_depth() -> None:
    low, high, mixed = (Layer(name, n, 1, {}, n % 2, 1) for n, name in enumerate("abc"))
    sites = low, high, replace(mixed, low=1, ruled=2), Layer("d", 3, 9, {}, 0, 0)
    content = page_of(layers=Layers("1-3-1", Rule(FloatFormat(4, 3)), sites, (), 24))
    assert Page(content).ids == {*FIGURES, "layers"}
    strip = content[content.index('id="layers"') :].partition("</div>")[0]
    cells = re.findall(r'title="group \d: (\w)" style="[^"]*?(#ddd|#56b4e9 [\d.]+%)', strip)
    assert cells == [
        ("a", "#56b4e9 0.0%"),
        ("b", "#56b4e9 100.0%"),
        ("c", "#56b4e9 50.0%"),
        ("d", "#ddd"),
    ]
    assert "low, 1-3-1" in content


def test_the_page_holds_text_tables_and_figures() -> None:
    content = page_of("net on data", {"batch_size": 32, "rank": None}, memory_cap="2.5MB")
    page = Page(content)
    text = "".join(page.text)
    assert "net on data" in text
    assert (
        "Recommended within 2.5MB: format_a 1-4-1, learning_rate 0.1, memory 2 MB, "
        "error 0.1000 (measured). With probability"
    ) in text
    assert "Measured: 2 of 4 configurations" in text
    header = ["format_a", "learning_rate", "memory", "error"]
    best, other = ["1-4-1", "0.1", "2 MB", "0.1000"], ["1-3-1", "0.1", "3 MB", "0.1500"]
    second = page.rows.index(header, 1)
    assert page.rows[second:] == [header, best, other, ["setting", "value"], ["batch size", "32"]]
    assert page.chosen == [best, best]
    frontier = page.rows[1:second]
    assert [row[2] for row in frontier[:2]] == ["1 MB", "2 MB"]
    assert frontier[0][3].endswith(" predicted")
    assert page.ids == set(FIGURES)


def test_the_figures_hold_the_data() -> None:
    content = page_of(tasks=("a", "b", "<c>"))
    (measured,) = (
        trace for trace in traces(content, "frontier") if trace.get("name") == "Measured"
    )
    assert numbers(measured["x"]).tolist() == [3e6, 2e6]
    assert numbers(measured["y"]).tolist() == [0.15, 0.1]
    (regret,) = traces(content, "regret")
    assert regret["x"] == [1, 2]
    (errors,) = traces(content, "errors")
    assert errors["y"] == ["a", "b", "&lt;c&gt;"]
    np.testing.assert_allclose(numbers(errors["z"])[:4], [0.2, 0.4, 0.3, 0.1])
    (embeddings,) = traces(content, "embeddings")
    assert len(numbers(embeddings["x"])) == 4


def test_the_page_needs_no_network() -> None:
    content = page_of()
    assert content.count(get_plotlyjs()) == 1
    own = content.replace(get_plotlyjs(), "")
    assert "http" not in own
    assert "//" not in own
    assert not Page(content).linked
    assert own.count('"displaylogo": false, "showSendToCloud": false') == len(FIGURES)
    # What remains beside plotly.js opens at once.
    assert len(own) < 200_000


def test_text_is_escaped() -> None:
    bad = "</script><script>alert(1)</script>&\"'"
    content = page_of(bad, {"data": bad, "learning_rate": 7}, tasks=(bad, "b", "c"))
    assert "alert(1)</script>" not in content
    page = Page(content)
    assert page.text.count(bad) == 3  # title, heading and setting
    assert ["data", bad] in page.rows
    # A setting that is tuned is none.
    assert ["learning rate", "7"] not in page.rows


def test_tasks_of_one_name_are_told_apart() -> None:
    (errors,) = traces(page_of(tasks=("a", "a", "b")), "errors")
    assert errors["y"] == ["a #1", "a #2", "b #3"]


def test_the_page_takes_the_prediction_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    meta = meta_of(("a", "b", "c"))
    prediction = predict(study_of(), meta, MEMORY)

    def condition(*_: object, **__: object) -> NoReturn:
        pytest.fail("conditioned again")

    monkeypatch.setattr(TaskPrior, "condition", condition)
    content = as_page(study_of(), meta, prediction, title="title", settings={})
    assert Page(content).ids == set(FIGURES)


def test_without_past_tasks() -> None:
    page = Page(page_of(meta=MetaModel.cold(SPACE)))
    assert "past tasks" not in "".join(page.text)
    assert page.ids == {"frontier", "regret", "embeddings"}


def test_the_page_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page.html"
    write_page(path, "old")
    write_page(path, "new ±")
    assert path.read_text(encoding="utf-8") == "new ±"

    def fail(self: Path, target: Path) -> NoReturn:
        assert path.read_text(encoding="utf-8") == "new ±"
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_page(path, "newer")
    assert [file.read_text(encoding="utf-8") for file in tmp_path.iterdir()] == ["new ±"]
