"""The page of facts: Markdown, made of the CSV files beside it and of nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
from facts_format import Rows, grouped, markdown, percent, read, spoken
from paired import standard_error

SHOWN: Final = 10
"""Rows of a long table."""

_SCORES: Final = {
    "convergence": "convergence",
    "hyperdiff": "HyperDiff",
    "hypervolume_regret": "hypervolume regret",
    "relative_error": "relative error",
    "recommendation_regret": "regret of the recommendation",
    "relative_memory": "memory spent, of measuring all",
}


def write_page(folder: Path, name: str) -> None:
    """Writes NAME.md into the folder of its tables."""
    identity = read(folder, name)
    variance, noise = read(folder, name, "variance"), read(folder, name, "noise")
    tau, evaluation = read(folder, name, "tau"), read(folder, name, "evaluation")
    marginals, sets = read(folder, name, "marginals"), read(folder, name, "smallest_sets")
    frontier, values = read(folder, name, "frontier"), read(folder, name, "singular_values")
    sections = [
        [f"# Facts about {name}"],
        [
            "Made by `benchmarks/collect/corpus_facts.py` from the CSV files beside this page; "
            "no number is written by hand."
        ],
        ["## For who trains"],
        _summary(variance, noise, tau, sets, evaluation),
        ["## What it is"],
        markdown(["", ""], ([row["fact"], row["value"]] for row in identity)),
        ["## Singular values"],
        *_singular_values(values, name),
        ["## What moves the error of a task"],
        *_variance(variance, noise),
        ["## How alike the tasks are"],
        *_tau(tau, name),
        ["## Frontiers, and what hardware needs"],
        *_frontiers(frontier, marginals, len(tau)),
        *_smallest_sets(sets, marginals, noise),
        ["## What a few measurements tell"],
        *_evaluation(evaluation),
    ]
    text = "\n\n".join("\n".join(lines) for lines in sections if lines)
    (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")


def _summary(variance: Rows, noise: Rows, tau: Rows, sets: Rows, evaluation: Rows) -> list[str]:
    effects = sorted(variance, key=lambda row: -float(row["share"]))
    first = next(row for row in effects if row["effect"] != "interaction")
    others = [row for row in effects if row is not first]
    rest = ", ".join(f"{spoken(row['effect'])} {percent(row['share'])}" for row in others)
    lines = [
        f"- Choose {spoken(first['effect'])} first: it explains {percent(first['share'])} of the "
        f"variance within a task ({rest})."
    ]
    if noise:
        deviation = float(noise[0]["variance"]) ** 0.5
        lines.append(
            f"- Another seed moves an error by {deviation:.4f} (standard deviation). Two trainings "
            f"with different seeds may differ by {2 * 2**0.5 * deviation:.3f} for no other reason "
            "(two standard deviations of a difference): one training of each does not prove less."
        )
    lines.append(
        "- How far the order of configurations on one task holds on another: Kendall's tau "
        f"{np.median([value for value, *_ in _pairs(tau)]):.2f} in the median (1 is the same "
        "order, 0 unrelated)."
    )
    tolerance, members = next(iter(grouped(sets, "tolerance").items()))
    lines.append(
        f"- {len(members)} configurations are enough to be within {tolerance} of the lowest "
        "error on every task and under every memory cap."
    )
    (count, strategy), scores = next(iter(_scores(evaluation).items()))
    lines.append(
        f'- A new task: after {count} measurement{"s" * (count > 1)} the "{strategy}" strategy '
        "recommends configurations whose error is "
        f"{_mean(scores, 'recommendation_regret')} above the lowest under the cap."
    )
    return lines


def _singular_values(rows: Rows, name: str) -> list[list[str]]:
    columns = {"errors": "errors", "main_effects_removed": "main effects removed"}
    counts = {
        column: [
            1 + int(np.searchsorted(np.cumsum([float(row[column]) for row in rows]), share))
            for share in (0.9, 0.99)
        ]
        for column in columns
    }
    return [
        [f"![Singular values]({name}_singular_values.png)"],
        [
            "Share of the squared sum, of the errors as they are, and of what is left of them "
            "without the mean of every task and the mean of every configuration. 90% and 99% of "
            "the squares are in the first "
            f"{counts['errors'][0]} and {counts['errors'][1]} singular values of the errors, in "
            f"the first {counts['main_effects_removed'][0]} and "
            f"{counts['main_effects_removed'][1]} of the rest. The fewer, the more a few "
            "measurements of a new task tell about all others."
        ],
        markdown(
            ["index", *columns.values()],
            (
                [row["index"], *(f"{100 * float(row[column]):.4g}%" for column in columns)]
                for row in rows[:6]
            ),
        ),
    ]


def _variance(rows: Rows, noise: Rows) -> list[list[str]]:
    header = ["", "share", "lowest task", "highest task", *(["net of noise"] if noise else [])]
    columns = ["share", "lowest", "highest", *(["net_of_noise"] if noise else [])]
    table = markdown(
        header, ([spoken(row["effect"]), *(percent(row[c]) for c in columns)] for row in rows)
    )
    explained = [
        "Analysis of variance of the configurations within a task, variances averaged over tasks."
    ]
    if not noise:
        return [explained, table, ["The interaction holds the noise: nothing was repeated."]]
    found = noise[0]
    table.append(f"| noise, at most |  |  |  | {percent(found['share'])} |")
    explained.append(
        f"{found['entries']} entries were measured with another seed: the variance of a "
        f"measurement is {float(found['variance']):.3g} (95% interval "
        f"{float(found['variance_low']):.3g} to {float(found['variance_high']):.3g}, "
        f"bootstrap), {percent(found['share'])} ({percent(found['share_low'])} to "
        f"{percent(found['share_high'])}) of the variance within a task. It is less where a "
        "seed adds to all configurations of a task alike."
    )
    return [explained, table, [_judged(rows, float(found["share_high"]))]]


def _judged(rows: Rows, noise: float) -> str:
    """Which effects stand above the noise; ``noise``: upper end of its share of the variance."""
    total = sum(int(row["degrees_of_freedom"]) for row in rows)
    within = [
        row["effect"]
        for row in rows
        if float(row["share"]) <= noise * int(row["degrees_of_freedom"]) / total
    ]
    above = [row["effect"] for row in rows if row["effect"] not in within]
    text = (
        "Net of noise takes the noise of configurations for independent. Above the upper end of "
        f"that noise: {_names(above)}. Not above it: {_names(within)}."
    )
    if any(float(row["net_of_noise"]) < 0 for row in rows):
        text += (
            " A negative share says that it is not independent: with one seed all configurations "
            "start from the same weights and see the images in the same order, so that much of "
            "the noise moves them together. Such an effect lies between 0 and its plain share."
        )
    return text


def _tau(rows: Rows, name: str) -> list[list[str]]:
    pairs = _pairs(rows)
    values = [value for value, *_ in pairs]
    lower, upper = np.quantile(values, (0.25, 0.75))
    ends = zip(("lowest", "highest"), (pairs[0], pairs[-1]), strict=True)
    return [
        [f"![Kendall's tau of every two tasks]({name}_tau.png)"],
        markdown(
            ["Kendall's tau of two tasks", ""],
            [
                ["median", f"{np.median(values):.3f}"],
                ["quartiles", f"{lower:.3f} to {upper:.3f}"],
                *([f"{word}: {a} and {b}", f"{value:.3f}"] for word, (value, a, b) in ends),
            ],
        ),
    ]


def _frontiers(frontier: Rows, marginals: Rows, tasks: int) -> list[list[str]]:
    on_one = [row for row in frontier if row["nondominated"] != "0"]
    points = sum(int(row["nondominated"]) for row in frontier)
    sections = [
        [
            f"A frontier has {points / tasks:.1f} configurations in the mean; "
            f"{len(frontier) - len(on_one)} of {len(frontier)} configurations are on none. The "
            f"most frequent {min(SHOWN, len(on_one))} of the others:"
        ],
        markdown(
            ["configuration", f"on frontiers, of {tasks}"],
            ([row["configuration"], row["nondominated"]] for row in on_one[:SHOWN]),
        ),
    ]
    for name, rows in grouped(marginals, "name").items():
        ordered = sorted(rows, key=lambda row: -int(row["frontier_points"]))
        sections.append(
            markdown(
                [spoken(name), f"frontier points, of {points}", f"on frontiers, of {tasks}"],
                ([row["value"], row["frontier_points"], row["tasks"]] for row in ordered),
            )
        )
    return sections


def _smallest_sets(sets: Rows, marginals: Rows, noise: Rows) -> list[list[str]]:
    groups = grouped(sets, "tolerance")
    choices = {
        name: [row["value"] for row in own] for name, own in grouped(marginals, "name").items()
    }
    rows = []
    for tolerance, members in groups.items():
        used = {name: {row[name] for row in members} for name in choices}
        needed = [", ".join(v for v in choices[name] if v in used[name]) for name in choices]
        rows.append([tolerance, str(len(members)), *needed])
    tolerance, strictest = next(iter(groups.items()))
    explained = (
        "The smallest sets of configurations of which, for every task and under every one of "
        "ten memory caps, one is allowed and within so much of the lowest error under the cap "
        "(exact; of equals the least memory), and what hardware must offer for them."
    )
    if noise:
        deviation = float(noise[0]["variance"]) ** 0.5
        explained += f" What differs by less than {deviation:.4f}, one seed's deviation, is noise."
    alone = sorted(strictest, key=lambda row: -float(row["good_alone"]))
    shown = [f"{row['configuration']} ({100 * float(row['good_alone']):.0f}%)" for row in alone]
    more = f"; and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return [
        [explained],
        markdown(["within", "configurations", *map(spoken, choices)], rows),
        [
            f"Those within {tolerance}, and on what share of tasks and caps each is good enough "
            f"by itself: {'; '.join(shown[:SHOWN])}{more}."
        ],
    ]


def _evaluation(rows: Rows) -> list[list[str]]:
    groups = _scores(rows)
    counts = sorted({count for count, _ in groups})
    table = []
    for measure, label in _SCORES.items():
        for strategy in dict.fromkeys(row["strategy"] for row in rows):
            cells = [_mean(groups[count, strategy], measure) for count in counts]
            table.append([label, strategy, *cells])
    return [
        [
            "Every task in turn is new, the others are past (`optuna-peppp evaluate`); mean and "
            "standard error over tasks, lower is better."
        ],
        markdown(["after", "", *map(str, counts)], table),
    ]


def _scores(rows: Rows) -> dict[tuple[int, str], Rows]:
    groups: dict[tuple[int, str], Rows] = {}
    for row in rows:
        groups.setdefault((int(row["measurements"]), row["strategy"]), []).append(row)
    return groups


def _mean(rows: Rows, measure: str) -> str:
    values = np.array([float(row[measure]) for row in rows])
    return f"{values.mean():.4f} ± {standard_error(values):.4f}"


def _pairs(tau: Rows) -> list[tuple[float, str, str]]:
    """Tau of every two tasks, ascending; without tasks on which all configurations err alike."""
    pairs = ((float(a[b["task"]]), a["task"], b["task"]) for a, b in combinations(tau, 2))
    return sorted(pair for pair in pairs if not np.isnan(pair[0]))


def _names(effects: Sequence[str]) -> str:
    return ", ".join(map(spoken, effects)) or "none"
