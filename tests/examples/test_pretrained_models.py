from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from optuna_peppp import ErrorMatrix
from optuna_peppp.examples import pretrained_models as example

PAGE = Path(example.__file__).with_suffix(".md").read_text()
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def publish(folder: Path, results: ErrorMatrix) -> None:
    """Writes results as pytorch-image-models publishes them."""
    (models,) = results.space.choices.values()
    for task, errors, sizes in zip(results.tasks, results.errors, results.memory, strict=True):
        with (folder / f"results-{task}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["model", "img_size", "top1_err", "param_count"])
            for model, error, size in zip(models, errors, sizes, strict=True):
                name, image = str(model).rsplit("@", 1)
                writer.writerow([name, image, f"{100 * error:.3f}", f"{size / 1e6:,.2f}"])


def check_what_the_page_prints(results: ErrorMatrix) -> None:
    """What is true of the model that the page recommends."""
    (printed,) = re.findall(r"```text\n(.*)\n```", PAGE)
    model, size, _, truth, lowest = re.findall(
        r"^(\S+): ([\d.]+) M .* ± ([\d.]+); the truth is ([\d.]+), .* ([\d.]+)$", printed
    )[0]
    index, row = results.space.index({"model": model}), results.tasks.index("sketch")
    errors, sizes = results.errors[row], results.memory[row]
    assert (f"{errors[index]:.3f}", f"{sizes[index] / 1e6:.4g}") == (truth, size)
    assert f"{errors[sizes <= 30e6].min():.3f}" == lowest


def test_files_by_hand(tmp_path: Path) -> None:
    rows = ("big,224,20.5,{}", "small,160,50,0.27", "mid,224,30,5.00", "mid,288,25,5.00")
    for number, parting in enumerate(("", "", "only,224,1,1.00")):
        lines = ["model,img_size,top1_err,param_count", *rows, parting]
        text = "\n".join(lines).replace("{}", '"1,013.01"')
        (tmp_path / f"results-set{number}.csv").write_text(text)
    found = example.read(tmp_path)
    assert found.tasks == ("set0", "set1", "set2")
    assert found.space.choices == {"model": ("small@160", "mid@224", "mid@288", "big@224")}
    np.testing.assert_allclose(found.errors, [[0.5, 0.3, 0.25, 0.205]] * 3)
    np.testing.assert_allclose(found.memory, [[0.27e6, 5e6, 5e6, 1013.01e6]] * 3)
    assert example.read(tmp_path, models=2).space.choices == {"model": ("small@160", "big@224")}
    (tmp_path / "results-set0.csv").unlink()
    with pytest.raises(ValueError, match=r"must hold results-\*.csv of three test sets; got 2"):
        example.read(tmp_path)


def test_ten_evaluations_find_a_good_model(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = shared / "tables" / "timm.csv"
    if not table.is_file():
        pytest.skip(f"needs the table {table} of public results")
    results = ErrorMatrix.read_csv(table)
    publish(tmp_path, results)
    read = example.read(tmp_path)
    np.testing.assert_allclose(read.errors, results.errors, atol=1e-9)
    np.testing.assert_allclose(read.memory, results.memory)
    check_what_the_page_prints(read)
    example.main([str(tmp_path)])
    said = re.findall(r"(?:± |error |truth is |parameters )(\d\.\d+)", capsys.readouterr().out)
    *_, truth, lowest = map(float, said)
    # Eight of the 216 models within the cap are so good.
    assert truth <= lowest + 0.02
    study = example.choose(read, "imagenet", 10, "30M")
    models = [trial.params["model"] for trial in study.trials]
    assert len(set(models)) == len(models) == 10


def test_the_page_shows_the_results() -> None:
    rows = [line.strip("| ").split(" | ") for line in re.findall(r"^\|.*$", PAGE, re.MULTILINE)]
    header, _, *lines = rows
    names = ("random", "nsga2", "tpe", "gp", "portfolio", "bayesian")
    with (RESULTS / "compare" / "regret.csv").open(newline="") as file:
        regret = {
            (row["sampler"], row["measurements"]): f"{float(row['regret']):.4f}"
            for row in csv.DictReader(file)
            if row["corpus"] == "timm"
        }
    for name, line in zip(names, lines, strict=True):
        assert line[1:] == [regret[name, count] for count in header[1:]], name


def test_links_of_the_page_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if "://" not in link]
    assert len(links) == 2
    for link in links:
        assert (Path(example.__file__).parent / link.partition("#")[0]).exists(), link


def test_nothing_speaks_of_formats() -> None:
    for text in (PAGE, Path(example.__file__).read_text()):
        assert not re.search(r"precision|\bbytes?\b|\bformat_|low-", text)
