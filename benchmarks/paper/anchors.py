"""The paper's numbers and ours: one record for every anchor, one verdict for every record.

A number counts as the same if it rounds to the digits that the paper prints: its tolerance is half
a unit of the last one. A number printed as "> x" must be larger than x. One that the paper has from
a single random draw is compared with the distribution of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.harness import tables

Verdict = Literal["same", "different", "not tested"]

_PRINTED: Final = re.compile(r"(?P<above>> )?(?P<number>\d+(\.(?P<decimals>\d+))?)(?P<unit>\D*)")


@dataclass(frozen=True, slots=True)
class Anchor:
    """A number or statement of the paper, as printed, beside ours, empty where we could not look.

    The tolerance, within which of the paper's number ours counts as the same, is empty for what is
    no number, or only a bound; the note says why, or how it was counted.
    """

    result: str
    paper: str
    ours: str
    tolerance: str
    verdict: Verdict
    note: str = ""


def number(result: str, paper: str, ours: float, note: str = "") -> Anchor:
    """An anchor of one number.

    Args:
        result: What it is about.
        paper: As printed: ``"0.78"``, ``"816 MiB"``, ``"99.0%"``, a bound as ``"> 99.5%"``.
        ours: In the same unit; a fraction where the paper prints a percentage.
        note: Why, or how it was counted.

    Raises:
        ValueError: ``paper`` is not such a number.

    >>> number("median error", "0.78", 0.7849)
    Anchor(result='median error', paper='0.78', ours='0.7849', tolerance='0.005', verdict='same', \
note='')
    >>> number("share of the first", "> 99.5%", 0.99).verdict
    'different'
    """
    printed = _PRINTED.fullmatch(paper)
    if printed is None:
        raise ValueError(f'paper must be a number such as "0.78", "60" or "> 99.5%"; got {paper!r}')
    theirs, unit = float(printed["number"]), printed["unit"]
    value = 100 * ours if unit.startswith("%") else ours
    decimals = len(printed["decimals"] or "")
    tolerance = 0.5 * 10**-decimals
    # What lies on the edge may have been rounded either way: binary digits do not decide.
    equal = abs(value - theirs) <= tolerance * (1 + 1e-9)
    text = str(value) if isinstance(value, int) else f"{value:.{decimals + 2}f}"
    return Anchor(
        result,
        paper,
        text + unit,
        "" if printed["above"] else f"{tolerance:g}{unit}",
        "same" if (value > theirs if printed["above"] else equal) else "different",
        note,
    )


def one_draw(result: str, paper: str, draws: ArrayLike, note: str = "") -> Anchor:
    """An anchor of a number that the paper has from a single random draw.

    The same if the paper's number, to its digits, is within the central 90% of our ``draws``.
    """
    ours = np.asarray(draws, dtype=np.float64)
    low, middle, high = np.quantile(ours, (0.05, 0.5, 0.95))
    theirs, half = float(paper), 0.5 * 10.0 ** -len(paper.partition(".")[2])
    above = f"the paper's is above {(ours < theirs).mean():.0%} of {len(ours)} draws"
    return Anchor(
        result,
        paper,
        f"median {middle:.3f}, central 90% {low:.3f} to {high:.3f}",
        "",
        "same" if low - half <= theirs <= high + half else "different",
        f"{above}; {note}" if note else above,
    )


def claim(result: str, paper: str, ours: str, holds: bool, note: str = "") -> Anchor:
    """An anchor of a statement in words; ``holds`` says whether our data agree with it."""
    return Anchor(result, paper, ours, "", "same" if holds else "different", note)


def not_tested(result: str, paper: str, note: str) -> Anchor:
    """An anchor that we could not look at; ``note`` says why."""
    return Anchor(result, paper, "", "", "not tested", note)


def write_anchors(path: Path, anchors: Iterable[Anchor]) -> None:
    """Writes a CSV, one line an anchor."""
    tables.write(path, [asdict(anchor) for anchor in anchors])


def markdown(anchors: Iterable[Anchor]) -> str:
    """A Markdown table, one line an anchor."""
    lines = [["result", "paper", "ours", "verdict", "why, or how"]]
    for anchor in anchors:
        paper = f"{anchor.paper} (± {anchor.tolerance})" if anchor.tolerance else anchor.paper
        lines.append([anchor.result, paper, anchor.ours, anchor.verdict, anchor.note])
    return tables.markdown(lines) + "\n"
