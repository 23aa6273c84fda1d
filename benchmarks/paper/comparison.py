"""What the outcomes of settings.py say: means, differences from ED-MF, pictures, anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import groupby
from typing import Final, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness import looks
from benchmarks.harness.looks import BLACK, BLUE, GREEN, ORANGE, RED, WIDTH
from benchmarks.harness.tables import Row, mean_and_error
from benchmarks.paper.anchors import Anchor, claim
from benchmarks.paper.settings import AUTHORS, PLAIN, RANKS, Outcome

Metric = Literal["convergence", "hyperdiff"]

METRICS: Final[dict[Metric, str]] = {"convergence": "convergence", "hyperdiff": "HyperDiff"}

AS_RUN: Final = ("qr-mf", "random-mf", "bo-mf-ascending", "bo-full-ascending")
AS_WRITTEN: Final = ("qr-mf", "random-mf", "bo-mf", "bo-full")
"""ED-MF's rivals, as in the authors' runs and as in their text."""

STYLES: Final = {
    "ed-mf": ("ED-MF", BLUE, "-"),
    "qr-mf": ("QR-MF", ORANGE, "-"),
    "random-mf": ("random-MF", BLACK, "-"),
    "bo-mf": ("BO-MF", GREEN, "-"),
    "bo-mf-ascending": ("BO-MF, ascending", GREEN, ":"),
    "bo-full": ("BO-FULL", RED, "-"),
    "bo-full-ascending": ("BO-FULL, ascending", RED, ":"),
}


def summaries(found: Sequence[Outcome]) -> list[Row]:
    """Means and standard errors over tasks: a row a convention, setting, technique and count."""

    def key(outcome: Outcome) -> tuple[str, str, str, int]:
        return outcome.convention, outcome.setting, outcome.technique, outcome.measurements

    rows: list[Row] = []
    for (convention, setting, technique, count), group in groupby(sorted(found, key=key), key):
        of_tasks = np.array([astuple(outcome)[-3:] for outcome in group])
        (memory, _), convergence, hyperdiff = (mean_and_error(column) for column in of_tasks.T)
        rows.append(
            {
                "convention": convention,
                "setting": setting,
                "technique": technique,
                "measurements": count,
                "tasks": len(of_tasks),
                "relative_memory": memory,
                "convergence": convergence[0],
                "convergence_standard_error": convergence[1],
                "hyperdiff": hyperdiff[0],
                "hyperdiff_standard_error": hyperdiff[1],
            }
        )
    return rows


def few(convention: str) -> range:
    """The three smallest numbers of measurements that determine an embedding."""
    return range(RANKS[convention], RANKS[convention] + 3)


@dataclass(frozen=True, slots=True)
class Match:
    """ED-MF against rivals, after some numbers of measurements, in one setting and convention."""

    convention: str
    setting: str
    rivals: Sequence[str]
    counts: Sequence[int]

    def excess(
        self, found: Sequence[Outcome], technique: str, metric: Metric
    ) -> tuple[float, float]:
        """By how much a technique is worse than ED-MF, mean over counts, paired over tasks.

        Returns:
            Mean over tasks and its standard error.
        """
        sums: dict[str, dict[str, float]] = {"ed-mf": {}, technique: {}}
        for outcome in found:
            if (
                (outcome.convention, outcome.setting) == (self.convention, self.setting)
                and outcome.technique in sums
                and outcome.measurements in self.counts
            ):
                of_tasks = sums[outcome.technique]
                of_tasks[outcome.task] = of_tasks.get(outcome.task, 0) + getattr(outcome, metric)
        ours, theirs = sums.values()
        away = np.array([theirs[task] - ours[task] for task in ours])
        return mean_and_error(away / len(self.counts))

    def excesses(self, found: Sequence[Outcome]) -> dict[tuple[Metric, str], tuple[float, float]]:
        """Of all rivals, in both metrics."""
        pairs = [(metric, rival) for metric in METRICS for rival in self.rivals]
        return {(m, rival): self.excess(found, rival, m) for m, rival in pairs}

    def won(self, found: Sequence[Outcome], result: str, paper: str) -> Anchor:
        """By two standard errors, no rival is better than ED-MF in either metric."""
        excesses = self.excesses(found)
        better = [
            f"{STYLES[rival][0]} in {METRICS[metric]}"
            for (metric, rival), (mean, error) in excesses.items()
            if mean < -2 * error
        ]
        note = f"{self._span}, ± standard error over tasks"
        note += f"; better by more than two: {', '.join(better)}" * bool(better)
        return claim(f"{result}: {self._described}", paper, _said(excesses), not better, note)

    def drawn(self, found: Sequence[Outcome], result: str, paper: str) -> Anchor:
        """Half of the rivals' metrics are ED-MF's or better."""
        excesses = self.excesses(found)
        matching = [mean <= 2 * error for mean, error in excesses.values()]
        note = f"{self._span}; {sum(matching)} of {len(matching)} within two standard errors"
        half = sum(matching) >= len(matching) / 2
        return claim(f"{result}: {self._described}", paper, _said(excesses), half, note)

    @property
    def _described(self) -> str:
        order = "smallest" if "bo-mf-ascending" in self.rivals else "largest"
        authors = f"authors' computation, BO taking the {order} expected improvement"
        convention = authors if self.convention == AUTHORS else self.convention
        return f"Setting {self.setting}, {convention}"

    @property
    def _span(self) -> str:
        first, last = self.counts[0], self.counts[-1]
        span = f"{first} to {last}" if len(self.counts) > 1 else f"{first}"
        return f"by how much they are worse than ED-MF at {span} measurements"


def _said(excesses: dict[tuple[Metric, str], tuple[float, float]]) -> str:
    texts = []
    for metric, name in METRICS.items():
        of_rivals = ", ".join(
            f"{STYLES[rival][0]} {mean:+.4f} ± {error:.4f}"
            for (of_metric, rival), (mean, error) in excesses.items()
            if of_metric == metric
        )
        texts.append(f"{name}: {of_rivals}")
    return "; ".join(texts)


def draw(
    rows: Sequence[Row],
    panels: Sequence[tuple[str, Metric]],
    conventions: Sequence[str] = (AUTHORS, PLAIN),
) -> Figure:
    """A row for every setting and metric, a column for every convention."""
    size = (WIDTH, 0.9 + 1.75 * len(panels))
    figure, grid = looks.panels(len(panels), len(conventions), figsize=size)
    for (setting, metric), axes in zip(panels, grid, strict=True):
        for convention, ax in zip(conventions, axes, strict=True):
            shown = [r for r in rows if (r["convention"], r["setting"]) == (convention, setting)]
            _draw_panel(ax, shown, metric)
            ax.set_title(f"Setting {setting}, {convention}")
        axes[0].set_ylabel(f"{METRICS[metric]} (mean ± s.e.)")
    for ax in grid[-1]:
        ax.set_xlabel("memory of all measurements\n(% of measuring everything permitted)")
    looks.legend(figure, grid[0, 0])
    return figure


def _draw_panel(ax: Axes, rows: Sequence[Row], metric: Metric) -> None:
    for technique, (label, color, line) in STYLES.items():
        lines = [row for row in rows if row["technique"] == technique]
        if lines:
            ax.errorbar(
                [100 * float(row["relative_memory"]) for row in lines],
                [float(row[metric]) for row in lines],
                [float(row[f"{metric}_standard_error"]) for row in lines],
                color=color,
                linestyle=line,
                label=label,
                linewidth=1,
                elinewidth=0.6,
            )
    looks.logarithmic(ax)
