"""What a few past studies of one's own are worth, although most configurations are missing.

From a table, a space of 48 of its configurations (8 x 6 or 4 x 4 x 3 choices) and seven of its
tasks are drawn. Optuna's TPE makes a study of 15 trials of each task but the last; with the first,
the first three or all six studies as the only past, as `optuna-peppp fit --storage` reads them
(memory known of what was measured alone), our default and the portfolio measure the last task. TPE
and our cold start, which know no past, measure it too. Judged is the hypervolume regret (runs.py),
mean over the draws, and paired differences to the cold start.

    python -m benchmarks.samplers.own_studies [--corpus CSV-OR-NAME ...] [--draws 100] [--quick]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from benchmarks.harness import looks, script, tasks
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, grouped, markdown, mean_and_error, six_digits
from benchmarks.samplers.runs import BUDGETS, measure, regrets
from benchmarks.samplers.tasks import CORPORA, NewTask
from benchmarks.samplers.tasks import read as read_corpus
from optuna_peppp import ConfigurationSpace, ErrorMatrix

SIZES: Final = {2: (8, 6), 3: (4, 4, 3)}
"""Choices of a space, by its number of names."""

STUDIES: Final = (1, 3, 6)
TRIALS: Final = 15
COUNTS: Final = tuple(count for count in BUDGETS if count <= TRIALS)

COLD: Final = "cold-start", 0
CONTESTANTS: Final = (
    ("tpe", 0),
    COLD,
    *((name, studies) for studies in STUDIES for name in ("portfolio", "bayesian")),
)
"""Who measures, after how many past studies."""

LABELS: Final = {
    "tpe": "TPE",
    "cold-start": "ours, cold start",
    "portfolio": "portfolio",
    "bayesian": "ours, default",
}


@dataclass(frozen=True)
class Draws:
    """Draws from a table, by their number."""

    matrix: ErrorMatrix

    def __call__(self, number: int) -> tuple[list[list[float]], list[int]]:
        """Regrets by contestant and count; how many configurations no study measured."""
        rng = np.random.default_rng(number)
        whole = self.matrix.space
        sizes = SIZES[len(whole.choices)]
        choices = {
            name: [values[place] for place in np.sort(rng.permutation(len(values))[:size])]
            for (name, values), size in zip(whole.choices.items(), sizes, strict=True)
        }
        space = ConfigurationSpace(choices)
        columns = [whole.index(space.params(index)) for index in range(len(space))]
        rows = rng.choice(tasks.complete_rows(self.matrix), max(STUDIES) + 1, replace=False)
        errors, memory = self.matrix.errors[rows][:, columns], self.matrix.memory[rows][:, columns]
        names = tuple(f"{number}-{row}" for row in rows)
        truth = ErrorMatrix(space, names, errors, memory)
        seen = np.zeros(errors.shape, dtype=np.bool_)
        for row, name in enumerate(names[:-1]):
            study = measure(
                "tpe", NewTask(row, name, errors[row], memory[row], truth), TRIALS, number
            )
            seen[row, list(study.indices)] = True
        known = np.where(seen, errors, np.nan), np.where(seen, memory, np.nan)
        found = []
        for contestant, studies in CONTESTANTS:
            past = ErrorMatrix(space, names, known[0], known[1]).rows(range(max(studies, 1)))
            new = NewTask(max(STUDIES), names[-1], errors[-1], memory[-1], past)
            run = measure(contestant, new, TRIALS, number)
            found.append(regrets(run, errors[-1], memory[-1]))
        return found, [int((~seen[:studies].any(axis=0)).sum()) for studies in STUDIES]


def summary(corpus: str, drawn: Sequence[tuple[list[list[float]], list[int]]]) -> Iterator[Row]:
    """Means over draws, and differences to the cold start."""
    found = np.array([regret for regret, _ in drawn])
    never = dict(zip(STUDIES, np.mean([count for _, count in drawn], axis=0), strict=True))
    for place, (contestant, studies) in enumerate(CONTESTANTS):
        for at, count in enumerate(COUNTS):
            row: Row = {"corpus": corpus, "contestant": contestant, "studies": studies}
            row |= {"never_measured": float(never.get(studies, 48)), "measurements": count}
            own = found[:, place, at]
            row["draws"] = len(own)
            row["regret"], row["standard_error"] = mean_and_error(own)
            away = own - found[:, CONTESTANTS.index(COLD), at]
            row["more"], row["more_standard_error"] = mean_and_error(away)
            yield row


def table(rows: Sequence[dict[str, str]]) -> str:
    """A line a contestant with its regrets, and for the default its differences."""
    lines = [["past studies", "", *map(str, COUNTS)]]
    by_place = grouped(
        [row | {"place": f"{row['contestant']} {row['studies']}"} for row in rows], "place"
    )
    for own in by_place.values():
        name, studies = own[0]["contestant"], own[0]["studies"]
        lines.append([studies, LABELS[name], *(f"{float(row['regret']):.4f}" for row in own)])
        if name == "bayesian":
            away = (
                f"{float(row['more']):+.4f} ± {float(row['more_standard_error']):.4f}"
                for row in own
            )
            lines.append(["", "less cold start", *away])
    return markdown(lines)


def draw(rows: Sequence[dict[str, str]]) -> Figure:
    """Regret against measurements, a panel a table."""
    by_corpus = grouped(list(rows), "corpus")
    figure, grid = looks.panels(1, len(by_corpus), figsize=(3.2 * len(by_corpus), 3.4))
    colors = {0: looks.BLACK, 1: looks.SKY, 3: looks.BLUE, 6: looks.GREEN}
    lines = {"tpe": ":", "portfolio": "--"}
    for axes, (corpus, inside) in zip(grid[0], by_corpus.items(), strict=True):
        for name, studies in CONTESTANTS:
            own = [r for r in inside if (r["contestant"], r["studies"]) == (name, str(studies))]
            means, errors = ([float(r[c]) for r in own] for c in ("regret", "standard_error"))
            label = LABELS[name] + (f", {studies} past" if studies else "")
            style = {"linestyle": lines.get(name, "-"), "color": colors[studies]}
            axes.errorbar(COUNTS, means, yerr=errors, linewidth=1.2, label=label, **style)
        looks.logarithmic(axes, ticks=COUNTS)
        axes.set(xlabel="trials of the new study", title=corpus)
    grid[0, 0].set_ylabel("hypervolume regret")
    looks.legend(figure, grid[0, 0], "lower", columns=4)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Draws, writes, prints."""
    parser = script.parser(__doc__, "two draws from the bundled corpus")
    parser.add_argument(
        "--corpus", nargs="+", default=CORPORA[:3], help="names or files; default: three"
    )
    parser.add_argument("--draws", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    options = parser.parse_args(argv)
    found = list[Row]()
    for corpus in options.corpus[: 1 if options.quick else None]:
        numbers = range(2 if options.quick else options.draws)
        drawn = dict(tasks.each(Draws(read_corpus(corpus)), numbers, options.jobs, unit="draw"))
        found += summary(Path(corpus).stem, [drawn[number] for number in numbers])
    results = Results(script.folder(options), "own_studies")
    results.table([six_digits(row) for row in found])
    results.picture(draw(results.read()))
    results.record({"seeds": f"0 to {options.draws - 1}", "trials": TRIALS})
    for name, own in grouped(results.read(), "corpus").items():
        print(f"Hypervolume regret, 48 configurations of {name}:\n\n{table(own)}\n")


if __name__ == "__main__":
    main()
