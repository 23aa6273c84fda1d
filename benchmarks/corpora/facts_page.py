"""The page of facts: its template, filled from the CSV files beside it and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np

from benchmarks.harness.script import Results
from benchmarks.harness.tables import Rows, grouped, markdown, mean_and_error

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


def write_page(results: Results) -> None:
    """Writes NAME.md into the folder of its tables."""
    read, name = results.read, results.stem
    marginals, tau = read("marginals"), read("tau")
    facts = {
        "name": name,
        "identity": _table(["", ""], ([row["fact"], row["value"]] for row in read())),
        **_variance(read("variance"), read("noise")),
        **_singular_values(read("singular_values")),
        "tau": _tau(tau),
        **_frontiers(read("frontier"), marginals, len(tau)),
        **_smallest_sets(read("smallest_sets"), marginals),
        **_evaluation(read("evaluation")),
    }
    # Markdown is no HTML: nothing to escape.
    environment = jinja2.Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )
    environment.filters |= {"spoken": spoken, "percent": percent}
    template = Path(__file__).with_name("facts_page.md.jinja").read_text(encoding="utf-8")
    page = environment.from_string(template).render(facts)
    results.path("md").write_text(page, encoding="utf-8")


def spoken(name: str) -> str:
    """A tuned name as it is read: ``format_a`` is Format A."""
    words = {"format_a": "Format A", "format_b": "Format B"}
    return words.get(name, name.replace("_", " "))


def percent(share: str | float) -> str:
    """A share with two digits after the point."""
    return f"{100 * float(share):.2f}%"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return markdown([header, *rows])


def _variance(rows: Rows, noise: Rows) -> dict[str, Any]:
    effects = sorted(rows, key=lambda row: -float(row["share"]))
    first = next(row for row in effects if row["effect"] != "interaction")
    others = (row for row in effects if row is not first)
    header = ["", "share", "lowest task", "highest task", *["net of noise"] * len(noise)]
    columns = ["share", "lowest", "highest", *["net_of_noise"] * len(noise)]
    lines = [[spoken(row["effect"]), *(percent(row[c]) for c in columns)] for row in rows]
    facts: dict[str, Any] = {
        "first": first,
        "rest": ", ".join(f"{spoken(row['effect'])} {percent(row['share'])}" for row in others),
        "noise": noise[0] if noise else None,
    }
    if noise:
        lines.append(["noise, at most", "", "", "", percent(noise[0]["share"])])
        facts |= judged(rows, float(noise[0]["share_high"]))
        facts["deviation"] = float(noise[0]["variance"]) ** 0.5
    return facts | {"variance": _table(header, lines)}


def judged(rows: Rows, noise: float) -> dict[str, Any]:
    """Which effects stand above the noise; ``noise``: upper end of its share of the variance."""
    total = sum(int(row["degrees_of_freedom"]) for row in rows)
    above, within = list[str](), list[str]()
    for row in rows:
        own = noise * int(row["degrees_of_freedom"]) / total
        (within if float(row["share"]) <= own else above).append(spoken(row["effect"]))
    negative = any(float(row["net_of_noise"]) < 0 for row in rows)
    names = {"above": ", ".join(above) or "none", "within": ", ".join(within) or "none"}
    return {**names, "negative": negative}


def _singular_values(rows: Rows) -> dict[str, Any]:
    columns = {"errors": "errors", "main_effects_removed": "main effects removed"}
    plain, removed = (
        [
            1 + int(np.searchsorted(np.cumsum([float(row[column]) for row in rows]), share))
            for share in (0.9, 0.99)
        ]
        for column in columns
    )
    lines = ([row["index"], *(f"{100 * float(row[c]):.4g}%" for c in columns)] for row in rows[:6])
    table = _table(["index", *columns.values()], lines)
    return {"plain": plain, "removed": removed, "singular_values": table}


def _tau(rows: Rows) -> dict[str, Any]:
    pairs = [(float(a[b["task"]]), a["task"], b["task"]) for a, b in combinations(rows, 2)]
    # Without tasks on which all configurations err alike.
    pairs = sorted(pair for pair in pairs if not np.isnan(pair[0]))
    lower, median, upper = np.quantile([value for value, *_ in pairs], (0.25, 0.5, 0.75))
    lines = [["median", f"{median:.3f}"], ["quartiles", f"{lower:.3f} to {upper:.3f}"]]
    for word, (value, a, b) in (("lowest", pairs[0]), ("highest", pairs[-1])):
        lines.append([f"{word}: {a} and {b}", f"{value:.3f}"])
    return {"median": median, "table": _table(["Kendall's tau of two tasks", ""], lines)}


def _frontiers(frontier: Rows, marginals: Rows, tasks: int) -> dict[str, Any]:
    on_one = [row for row in frontier if row["nondominated"] != "0"]
    points = sum(int(row["nondominated"]) for row in frontier)
    on = f"on frontiers, of {tasks}"
    tables = []
    for name, rows in grouped(marginals, "name").items():
        ordered = sorted(rows, key=lambda row: -int(row["frontier_points"]))
        lines = ([row["value"], row["frontier_points"], row["tasks"]] for row in ordered)
        tables.append(_table([spoken(name), f"frontier points, of {points}", on], lines))
    lines = ([row["configuration"], row["nondominated"]] for row in on_one[:SHOWN])
    return {
        "tasks": tasks,
        "points": points,
        "on_none": len(frontier) - len(on_one),
        "configurations": len(frontier),
        "shown": min(SHOWN, len(on_one)),
        "frontier": _table(["configuration", on], lines),
        "marginals": tables,
    }


def _smallest_sets(sets: Rows, marginals: Rows) -> dict[str, Any]:
    groups = grouped(sets, "tolerance")
    choices = {
        name: [row["value"] for row in own] for name, own in grouped(marginals, "name").items()
    }
    lines = []
    for tolerance, members in groups.items():
        used = {name: {row[name] for row in members} for name in choices}
        needed = (", ".join(v for v in choices[name] if v in used[name]) for name in choices)
        lines.append([tolerance, str(len(members)), *needed])
    tolerance, strictest = next(iter(groups.items()))
    alone = sorted(strictest, key=lambda row: -float(row["good_alone"]))
    good = [f"{row['configuration']} ({100 * float(row['good_alone']):.0f}%)" for row in alone]
    more = f"; and {len(good) - SHOWN} more" if len(good) > SHOWN else ""
    return {
        "tolerance": tolerance,
        "strictest": strictest,
        "sets": _table(["within", "configurations", *map(spoken, choices)], lines),
        "alone": "; ".join(good[:SHOWN]) + more,
    }


def _evaluation(rows: Rows) -> dict[str, Any]:
    groups: dict[tuple[int, str], Rows] = {}
    for row in rows:
        groups.setdefault((int(row["measurements"]), row["strategy"]), []).append(row)

    def mean(key: tuple[int, str], measure: str) -> str:
        values = [float(row[measure]) for row in groups[key]]
        return "{:.4f} ± {:.4f}".format(*mean_and_error(values))

    counts = sorted({count for count, _ in groups})
    lines = [
        [label, strategy, *(mean((count, strategy), measure) for count in counts)]
        for measure, label in _SCORES.items()
        for strategy in dict.fromkeys(row["strategy"] for row in rows)
    ]
    first = next(iter(groups))
    return {
        "count": first[0],
        "strategy": first[1],
        "regret": mean(first, "recommendation_regret"),
        "evaluation": _table(["after", "", *map(str, counts)], lines),
    }
