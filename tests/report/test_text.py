from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from optuna_peppp.configurations.cost import Cost
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.corpora.table import CorpusTable
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.prediction import Prediction
from optuna_peppp.report.text import as_json, as_text, corpus_as_text, fit_as_text, plain
from optuna_peppp.studies.baseline import Baseline

SPACE = ConfigurationSpace({"format_a": ["1-3-1", "1-4-1"], "learning_rate": [0.1, 0.01]})
PREDICTION = Prediction(
    SPACE,
    Cost(np.array([3e6, 1e6, 2e6, 4e6])),
    mean=np.array([0.2, 0.5, 0.3, 0.4]),
    std=np.array([0.0, 0.01, 0.02, 0.0]),
    measured=np.array([True, False, False, True]),
    draws=np.array([[0.2, 0.5, 0.3, 0.4]]),
)


def test_text_lists_by_memory_and_marks_the_recommendation() -> None:
    content = as_text(
        PREDICTION, PREDICTION.recommend("2.5MB"), "2.5MB", Baseline(error=0.25, memory=8e6)
    )
    *table, about, saved, probability, recommended = plain(content).splitlines()
    assert [line.split() for line in table] == [
        ["Measured,", "2", "of", "4", "configurations,", "and", "the", "frontier:"],
        ["format_a", "learning_rate", "memory", "error"],
        ["1-3-1", "0.01", "1", "MB", "0.5000", "±", "0.0100", "predicted"],
        [">", "1-4-1", "0.1", "2", "MB", "0.3000", "±", "0.0200", "predicted"],
        ["1-3-1", "0.1", "3", "MB", "0.2000", "measured"],
        *[["1-4-1", "0.01", "4", "MB", "0.4000", "measured,", "not", "on", "the", "frontier"]],
        ["float32", "8", "MB", "0.2500", "measured,", "to", "compare"],
        [],
    ]
    # The columns stand under one another.
    assert len({line.index("MB") for line in table if "MB" in line}) == 1
    assert recommended == (
        "Recommended within 2.5MB: format_a 1-4-1, learning_rate 0.1, memory 2 MB, "
        "error 0.3000 (predicted)"
    )
    assert probability.startswith("With probability 1.00 no configuration within the cap has")
    assert "this test set with this seed" in about
    assert saved == (
        "The recommended one needs 25% of the memory of float32 (saves 6 MB of 8 MB); its error "
        "is 0.0500 higher."
    )


def test_text_without_a_cap_and_without_a_baseline() -> None:
    text = plain(as_text(PREDICTION, PREDICTION.recommend()))
    assert (
        "\nRecommended, where more memory buys no lower error within the noise: format_a 1-3-1, "
        "learning_rate 0.1, memory 3 MB, error 0.2000 (measured)"
    ) in text
    assert "The float32 baseline, to compare with, is missing" in text
    assert "Elsewhere" not in text


def test_formats_are_told_by_their_other_names() -> None:
    space = ConfigurationSpace({"format_a": ["1-4-3"], "format_b": ["1-8-7", "1-8-9"]})
    ones = np.ones(2)
    prediction = Prediction(
        space, Cost(ones * 1e6), ones / 2, ones * 0, ones > 0, draws=np.full((1, 2), 0.5)
    )
    text = plain(as_text(prediction, prediction.recommend()))
    assert "\nElsewhere, 1-4-3 is near FP8's E4M3, 1-8-7 is bfloat16.\n" in text


def test_names_are_no_markup_and_no_commands() -> None:
    space = ConfigurationSpace({"[red]x[/red]\x1b[2J": ["[bold]:smile:", "\x1b[31mlong" * 30]})
    ones = np.ones(2)
    prediction = Prediction(
        space, Cost(ones * 1e6), ones / 2, ones * 0, ones > 0, draws=np.full((1, 2), 0.5)
    )
    text = plain(as_text(prediction, prediction.recommend()))
    assert "[red]x[/red]\\x1b[2J" in text
    assert "[bold]:smile:" in text
    assert "\\x1b[31mlong" * 30 in text
    assert "\x1b" not in text


def test_json_holds_every_configuration() -> None:
    content = json.loads(as_json(PREDICTION, PREDICTION.recommend("2.5MB")))
    assert content["frontier"] == [1, 2, 0]
    assert content["recommendation"] == 2
    assert (content["probability"], content["baseline"]) == (1.0, None)
    assert content["configurations"][3] == {
        "format_a": "1-4-1",
        "learning_rate": 0.01,
        "memory": 4e6,
        "error": 0.4,
        "std": 0.0,
        "measured": True,
    }


def lines_of(path: Path, text: str) -> dict[str, str]:
    """What ``corpus_as_text`` says about a file, by the name of the line."""
    path.write_text(text)
    lines = corpus_as_text(CorpusTable.read(path)).splitlines()
    return {line[:17].strip(): line[17:] for line in lines}


def test_an_incomplete_corpus_as_text(tmp_path: Path) -> None:
    lines = lines_of(
        tmp_path / "corpus.csv",
        "task,model,format_a,rate,batch,error,memory,seed\n"
        "fish,plain3,1-4-3,0.1,32,0.50,1000,0\n"
        "fish,plain3,1-4-3,0.1,32,0.40,1000,1\n"
        "fish,plain3,1-4-3,0.1,32,0.45,1000,2\n"
        "fish,plain3,1-3-1,0.1,32,0.30,2000,0\n"
        "fish,plain3,1-3-1,0.1,32,0.26,2000,1\n"
        "birds,vgg11,1-3-1,0.01,32,0.7,,0\n",
    )
    assert lines == {
        "tasks": "2: fish (plain3), birds (vgg11)",
        "networks": "plain3, vgg11",
        "configurations": "4: format_a (2), rate (2)",
        "settings": "batch 32",
        "observed": "3 of 8 entries, 37.5%",
        "errors": "0.28 to 0.7, median 0.45",
        "memory": "1 kB to 2 kB",
        "repeats": "2 entries measured up to 3 times; largest less smallest error 0.07 in the "
        "median, at most 0.1",
        "never measured": "1, which `fit` guesses: 1-4-3 / 0.01",
        "measured least": "birds (vgg11) 1, fish (plain3) 2",
    }


def test_a_complete_corpus_as_text(tmp_path: Path) -> None:
    rows = (
        f"t{task},{rate},{error},\n"
        for task, errors in enumerate(([0.5, 0], [0, 0.25]))
        for rate, error in zip((0.1, 0.2), errors, strict=True)
    )
    lines = lines_of(tmp_path / "corpus.csv", "task,rate,error,memory\n" + "".join(rows))
    # Singular values 0.5 and 0.25: four fifths of the squares in the first.
    assert lines["singular values"] == "80.00%, 100.00% of their squares in the first 2, added up"
    assert lines["observed"] == "4 of 4 entries, 100.0%"
    assert lines["memory"] == "unknown"
    assert (lines["networks"], lines["settings"], lines["repeats"]) == ("not told", "none", "none")
    assert "never measured" not in lines


def test_long_lists_are_cut(tmp_path: Path) -> None:
    rows = "".join(f"t{task},{rate},0.5,1\n" for task in range(9) for rate in range(2))
    lines = lines_of(tmp_path / "corpus.csv", "task,rate,error,memory\n" + rows)
    assert lines["tasks"] == "9: t0, t1, t2, t3, t4, t5, t6, t7, ..."


def test_a_fit_as_text() -> None:
    errors = np.array([[0.2, 0.4, 0.3, 0.1], [0.4, 0.8, 0.6, 0.2], [0.1, 0.2, 0.1, 0.1]])
    matrix = ErrorMatrix(SPACE, ("a", "b", "c"), errors, np.ones((3, 4)))
    meta = MetaModel.fit(matrix, rank=2)
    first, rank, prior, committee = fit_as_text(meta, matrix).splitlines()
    assert first == "Learned from 3 tasks and 4 configurations, 100.0% of their errors measured."
    assert rank == "Embeddings: rank 2, as asked for."
    assert prior.startswith("Factor models of the tasks, by rank and weight: 2: 100%.")
    assert committee.startswith("What to measure next: all of posterior, aligned worlds, ")
    assert "a measurement gains on 3 past tasks: all: " in committee
    chosen = MetaModel.fit(matrix)
    assert fit_as_text(chosen, matrix) == f"{first}\n{chosen.selection}"
    assert chosen.selection.startswith("Embeddings: rank 2, as in the paper's runs.")
