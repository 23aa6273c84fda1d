"""The documents: their links and commands exist, and their numbers are those of the results."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import pytest
import typer.main

from optuna_peppp.cli import app

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = {
    folder: (ROOT / folder / "README.md").read_text()
    for folder in (".", "optuna_peppp", "benchmarks", "tests")
}
README = DOCUMENTS["."]
COMMANDS: dict[str, Any] = {}


def _collect(command: Any, name: str = "") -> None:
    """Fills ``COMMANDS``: the options of every command by its name."""
    for sub, own in getattr(command, "commands", {}).items():
        _collect(own, f"{name} {sub}".strip())
    if not hasattr(command, "commands"):
        COMMANDS[name] = {option for parameter in command.params for option in parameter.opts}


_collect(typer.main.get_command(app))


def results(name: str, **fields: object) -> list[dict[str, str]]:
    """The records of a CSV whose fields have these values."""
    with (RESULTS / f"{name}.csv").open(newline="") as file:
        return [
            record
            for record in csv.DictReader(file)
            if all(record[field] == str(value) for field, value in fields.items())
        ]


def table(document: str, *header: str) -> list[list[str]]:
    """The rows of cells of the table whose header begins so, the header among them."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", document, re.MULTILINE):
        rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines()]
        if tuple(rows[0][: len(header)]) == header:
            found.append([rows[0], *rows[2:]])
    (only,) = found
    return only


def test_the_readme_is_for_a_newcomer() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("folder", DOCUMENTS)
def test_links_lead_somewhere(folder: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", DOCUMENTS[folder])
    assert links
    for link in links:
        path, _, heading = link.partition("#")
        if path.startswith("https:"):
            continue
        target = ROOT / folder / path if path else ROOT / folder / "README.md"
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings]
            assert heading in anchors, link


def test_rooms_of_the_walk_exist() -> None:
    package = ROOT / "optuna_peppp"
    paths = re.findall(r"`([a-z_/0-9]+(?:/|\.py))`", DOCUMENTS["optuna_peppp"])
    assert len(paths) > 30
    for path in paths:
        assert any((place / path).exists() for place in (package, package / "lowprecision")), path


def test_every_folder_of_the_package_is_described() -> None:
    described = {row[0].strip("`/") for row in table(DOCUMENTS["optuna_peppp"], "folder or file")}
    folders = {path.parent.name for path in (ROOT / "optuna_peppp").glob("*/__init__.py")}
    assert folders <= described


def test_commands_exist() -> None:
    lines = [
        shlex.split(line, comments=True)[1:]
        for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
        for line in block.splitlines()
        if line.startswith("optuna-peppp ")
    ]
    shown = set()
    for words in lines:
        name = words[0] if words[0] in COMMANDS else " ".join(words[:2])
        shown.add(name)
        assert {word for word in words if word.startswith("--")} <= COMMANDS[name], words
    assert shown == set(COMMANDS)


@pytest.mark.parametrize("folder", DOCUMENTS)
def test_commands_in_sentences_exist(folder: str) -> None:
    names = "|".join(COMMANDS)
    for name, words in re.findall(
        rf"`(?:optuna-peppp )?({names})((?: [^`]*)?)`", DOCUMENTS[folder]
    ):
        assert set(re.findall(r"--[\w-]+", words)) <= COMMANDS[name], (name, words)


# Numbers


BUILT_IN = ("random", "nsga2", "tpe", "tpe-multivariate", "gp")


def regrets(corpus: str, trials: str) -> dict[str, float]:
    """Hypervolume regret by sampler, and that of the best built-in one of Optuna."""
    records = results("compare/regret", corpus=corpus, measurements=trials)
    means = {record["sampler"]: float(record["regret"]) for record in records}
    return means | {"best": min(means[name] for name in BUILT_IN)}


def test_how_good_it_is() -> None:
    header, *rows = table(README, "trials", "1", "2")
    corpora = ("corpus", "plain3-cifar100")
    expected = [(corpus, name) for corpus in corpora for name in ("best", "ed-mf", "bayesian")]
    for (corpus, sampler), row in zip(expected, rows, strict=True):
        assert row[1:] == [f"{regrets(corpus, trials)[sampler]:.3f}" for trials in header[1:]], row
    for corpus, row in zip(corpora, rows[::3], strict=True):
        tasks = {record["tasks"] for record in results("compare/regret", corpus=corpus)}
        assert row[0].startswith(f"{max(tasks, key=int)} tasks ")


def test_samplers_on_every_corpus() -> None:
    pytest.importorskip("matplotlib", reason="needs the extra benchmarks")
    from benchmarks.harness.tables import grouped
    from benchmarks.samplers.compare import table as samplers

    for corpus, records in grouped(results("compare/regret"), "corpus").items():
        assert samplers(records) in DOCUMENTS["benchmarks"], corpus


def test_a_few_own_studies() -> None:
    pytest.importorskip("matplotlib", reason="needs the extra benchmarks")
    from benchmarks.harness.tables import grouped
    from benchmarks.samplers.own_studies import table as own_studies

    for corpus, records in grouped(results("own_studies"), "corpus").items():
        assert own_studies(records) in DOCUMENTS["benchmarks"], corpus


def test_what_past_tasks_are_worth_on_hardware_formats() -> None:
    pytest.importorskip("matplotlib", reason="needs the extra benchmarks")
    from benchmarks.samplers.transfer import recommendations
    from benchmarks.samplers.transfer import table as sources

    rows: list[Any] = results("transfer")
    assert sources(rows) in DOCUMENTS["benchmarks"]
    assert recommendations(rows) in DOCUMENTS["benchmarks"]
    for row in results("transfer", measurements=2, strategy="default"):
        for measure in ("hypervolume_regret", "relative_error"):
            if row["learned_from"] != "all kinds":
                mean, error = float(row[measure]), float(row[f"{measure}_standard_error"])
                assert f"{mean:.4f} ± {error:.4f}" in DOCUMENTS["benchmarks"], row


def test_beside_the_papers_method() -> None:
    measures = {
        "relative error": "relative_error",
        "true-hypervolume regret": "hypervolume_regret",
        "HyperDiff": "hyperdiff",
        "convergence": "convergence",
        "regret of the recommendation": "recommendation_regret",
        "coverage of 90% intervals": "coverage",
    }
    corpora = {"87 tasks": "corpus", "20 tasks": "plain3-cifar100"}
    header, *rows = table(DOCUMENTS["benchmarks"], "after", "", "1", "2")
    measure = corpus = ""
    for row in rows:
        if row[0]:
            name, tasks = row[0].split(", ")
            measure, corpus = measures[name], corpora[tasks]
        for number, cell in zip(header[2:], row[2:], strict=True):
            strategy = "ed-mf" if row[1] == "`ed-mf`" else "bayesian"
            (record,) = results(
                f"against_paper/{corpus}", strategy=strategy, measurements=number, measure=measure
            )
            if row[1] == "difference":
                values = (float(record[f"less_ed-mf{end}"]) for end in ("", "_standard_error"))
                assert cell == "{:+.4f} ± {:.4f}".format(*values)
            elif measure == "coverage":
                assert cell == f"{float(record['mean']):.0%}"
            else:
                assert cell == f"{float(record['mean']):.4f}"


def test_what_six_measurements_of_digits_are_worth() -> None:
    _, *rows = table(DOCUMENTS["benchmarks"], "six measurements by")
    names = ("hyperdiff", "convergence", "regret_25%", "regret_50%", "regret_75%")
    for row in rows:
        strategy = row[0].split(" ")[0].strip("`,")
        records = [
            record
            for record in results("digits_truth", strategy=strategy)
            if bool(record["left_out"]) == ("left out" in row[0])
        ]
        for name, cell in zip(names, row[1:], strict=True):
            values = [float(record[name]) for record in records]
            spread = f" ± {pstdev(values):.4f}" if len(values) > 1 else ""
            assert cell == f"{mean(values):.4f}{spread}", (row[0], name)


def test_what_asking_costs() -> None:
    samplers = ("bayesian", "cold-start", "ed-mf", "tpe-multivariate", "gp")
    _, *rows = table(DOCUMENTS["benchmarks"], "configurations", "ours, default")
    for row in rows:
        for sampler, cell in zip(samplers, row[1:], strict=True):
            (record,) = results(
                "speed/ask",
                sampler=sampler,
                configurations=row[0].replace(",", ""),
                trials=30,
                storage="memory",
            )
            milliseconds = float(record["milliseconds"])
            assert cell == (f"{milliseconds:.1f}" if milliseconds < 20 else f"{milliseconds:.0f}")


def test_what_large_fits_cost() -> None:
    _, *rows = table(DOCUMENTS["benchmarks"], "step", "tasks x configurations")
    assert len(rows) == len(results("speed/fit"))
    for row, record in zip(rows, results("speed/fit"), strict=True):
        size = f"{int(record['tasks']):,} x {int(record['configurations']):,}"
        seconds = f"{float(record['processor_seconds']):.1f}"
        assert row == [record["step"], size, seconds, f"{float(record['peak_mb']):.0f} MB"]


def test_what_large_asks_cost() -> None:
    _, *rows = table(DOCUMENTS["benchmarks"], "configurations", "trials", "")
    for row, record in zip(rows, results("speed/large"), strict=True):
        counts = [f"{int(record[name]):,}" for name in ("configurations", "trials")]
        assert row == [*counts, record["sampler"], f"{float(record['milliseconds']):.0f}"]


def test_what_importing_costs() -> None:
    pytest.importorskip("matplotlib", reason="needs the extra benchmarks")
    from benchmarks.speed.imports import table as imports

    assert imports(results("speed/imports")) in DOCUMENTS["benchmarks"]


def test_what_packing_holds() -> None:
    head, float32, *rows = table(DOCUMENTS["benchmarks"], "packed: live MB, and over computed")
    for column, network in enumerate(head[1:], 1):
        (plain,) = results("memory", network=network.strip("`"), method="plain")
        assert float32[column] == f"{float(plain['live_bytes']) / 1e6:.2f}"
        for row in rows:
            fields = {"network": network.strip("`"), "recipe": row[0].strip("`")}
            (found,) = results("memory", method="packed", **fields)
            live, ratio = float(found["live_bytes"]) / 1e6, float(found["live_over_computed"])
            assert row[column] == f"{live:.2f} ({ratio:.2f})"


def test_what_packing_costs() -> None:
    _, *rows = table(DOCUMENTS["benchmarks"], "format", "packing, in copies")
    measured = results("speed/packing")
    assert rows == [
        [
            f"`{row['format']}`",
            *(f"{float(row[f'{what}_in_copies']):.1f}" for what in ("pack", "unpack")),
        ]
        for row in measured
    ]


def test_what_is_printed_was_measured() -> None:
    """The printed errors of digits are those that were measured once for all configurations."""
    (printed,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    truth = {
        (record["format_a"], record["format_b"]): float(record["error"])
        for record in results("digits_measurements")
    }
    lines = re.findall(
        r"^[ >] +(1-\d+-\d+) +(1-\d+-\d+) .* (0\.\d{4})  measured", printed, re.MULTILINE
    )
    assert len(lines) == 6
    for *formats, error in lines:
        # Another machine sums in another order: a few of 360 test images, and of formats that
        # hardly train more.
        assert float(error) == pytest.approx(truth[tuple(formats)], rel=0.15, abs=0.01)


def test_families_of_formats_are_those_of_the_results() -> None:
    rows = results("speed/quantizer_families")
    header, *lines = table(DOCUMENTS["benchmarks"], "format", "compiled, nearest (us)")
    assert [line[0] for line in lines] == [
        f"`{name}`" for name in dict.fromkeys(r["format"] for r in rows)
    ]
    columns = [("compiled", "nearest"), ("compiled", "stochastic"), ("eager", "nearest")]
    for line in lines:
        own = {(r["method"], r["rounding"]): r for r in rows if f"`{r['format']}`" == line[0]}
        least = {name: float(r["least_microseconds"]) for name, r in own.items()}
        assert line[1:4] == [f"{least[name]:,.0f}" for name in columns]
        assert line[4] == f"{float(own[columns[0]]['ratio_of_least']):.1f}"
        for package, cell in zip(header[5:], line[5:], strict=True):
            other = least.get((package, "nearest"))
            assert cell == ("" if other is None else f"{other / least[columns[0]]:,.0f}")


def cost(row: dict[str, str], of: str = "_without_worst") -> str:
    """What a choice costs, with its standard error, as documents print it."""
    return f"{float(row[f'cost{of}']):+.4f} ± {float(row[f'standard_error{of}']):.4f}"


def test_what_formats_of_hardware_cost() -> None:
    name = "plain3-cifar100-hardware"
    chosen = {
        (row["name"], row["choice"]): row for row in results(f"corpora/{name}/{name}_choices")
    }

    printed = table(DOCUMENTS["benchmarks"], "activations", "costs", "states")[1:]
    for place, kind in enumerate(("activations", "states", "master")):
        costs = {row[2 * place].strip("`"): row[2 * place + 1] for row in printed}
        assert len(costs) > 1
        for choice, shown in costs.items():
            assert shown == (cost(chosen[kind, choice]) if choice else "")
    worst = cost(chosen["activations", "int2@32"], "").removeprefix("+")
    assert f"`int2@32` costs {worst}" in DOCUMENTS["benchmarks"]


def test_how_well_what_was_held_out_is_predicted() -> None:
    words = " ".join(DOCUMENTS["benchmarks"].split())
    for name, form in (
        ("vit", "of `vit` that were held out, main effects have a root mean square error of {}, "),
        ("gpt", "of `gpt` {}, "),
    ):
        corpus = "vit-cifar100-hardware" if name == "vit" else "gpt-text-hardware"
        rows = results(f"corpora/{corpus}/{corpus}_held_out")
        number = sum(int(row["held_out"]) for row in rows)
        squares = {
            who: sum(int(row["held_out"]) * float(row[who]) ** 2 for row in rows)
            for who in ("main_effects", "posterior")
        }
        main, posterior = (f"{(total / number) ** 0.5:.4f}" for total in squares.values())
        told = words.partition(form.format(main))
        assert told[1], form.format(main)
        assert posterior in told[2][:30]


def test_what_formats_of_hardware_cost_transformers() -> None:
    header, *printed = table(DOCUMENTS["benchmarks"], "choice", "costs `vit`")
    for place, name in enumerate(("vit-cifar100-hardware", "gpt-text-hardware"), 1):
        assert header[place] == f"costs `{name.partition('-')[0]}`"
        rows = results(f"corpora/{name}/{name}_choices")
        costs = {
            f"{row['name']} `{row['choice']}`": cost(
                row, "_without_worst" if row["cost_without_worst"] else ""
            )
            for row in rows
            if float(row["cost"])  # those beside which the others cost so much cost nothing
        }
        assert {row[0]: row[place] for row in printed} == costs
