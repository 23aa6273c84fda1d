"""How the figures of training_step.py are shown."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final

from speed.files import Row, markdown
from speed.step_contestants import COMPILED, EAGER, LOOP, OURS, QPYTORCH, REFERENCE

TARGETS: Final = {"cpu": (2.0, 4.0), "cuda": (1.3, 10.0)}
"""Times compiled float32 at most, and times as fast as QPyTorch at least."""

COLORS: Final = {
    LOOP: ("0.75", ""),
    EAGER: ("0.55", ""),
    COMPILED: ("0.3", ""),
    OURS[0]: ("tab:red", ""),
    OURS[1]: ("tab:red", "//"),
    REFERENCE[0]: ("tab:orange", ""),
    REFERENCE[1]: ("tab:orange", "//"),
    QPYTORCH[0]: ("tab:blue", ""),
    QPYTORCH[1]: ("tab:blue", "//"),
}
"""Color and hatching of everybody."""


def table(rows: Sequence[Row]) -> str:
    """The steps in Markdown."""
    header = ("network", "threads", "step", "rounding", "ms", "times float32 compiled")
    cells = [[*header, "times float32 eager", "times as fast as QPyTorch"]]
    for row in rows:
        speedup = row["speedup_over_qpytorch"]
        cells.append(
            [
                *(str(row[name]) for name in ("network", "threads", "method", "rounding")),
                f"{row['milliseconds']:.1f}",
                f"{row['ratio_to_float32_compiled']:.2f}",
                f"{row['ratio_to_float32_eager']:.2f}",
                f"{speedup:.1f}" if speedup != "" else "",
            ]
        )
    return markdown(cells)


def verdicts(rows: Sequence[Row]) -> list[str]:
    """Our compiled steps beside the targets."""
    lines = []
    for row in rows:
        if row["method"] != "compiled":
            continue
        most, least = TARGETS[str(row["device"])]
        figures = [(float(row["ratio_to_float32_compiled"]), most, "times float32 compiled")]
        if row["speedup_over_qpytorch"] != "":
            figures.append((float(row["speedup_over_qpytorch"]), least, "times QPyTorch's speed"))
        for value, target, what in figures:
            met = value <= target if target == most else value >= target
            lines.append(
                f"{row['network']}, {row['threads']} threads, {row['rounding']}: {value:.2f} {what}"
                f", target {target:g}: {'met' if met else 'missed'}"
            )
    return lines


def draw(rows: Sequence[Row], grown: Sequence[Row], path: Path) -> None:
    """Steps in compiled float32 ones, and the seconds that the configurations add up to."""
    import matplotlib.pyplot as plt

    figure, (steps, trainings) = plt.subplots(
        1, 2, figsize=(12, 4.5), width_ratios=(2, 1), layout="constrained"
    )
    groups = sorted({(str(row["network"]), int(row["threads"])) for row in rows})
    shown = [name for name in COLORS if name != COMPILED]
    for place, name in enumerate(shown):
        heights = [
            next(
                (
                    float(row["ratio_to_float32_compiled"])
                    for row in rows
                    if (row["network"], row["threads"]) == group
                    and (row["method"], row["rounding"]) == (name[0], name[1] or "")
                ),
                float("nan"),
            )
            for group in groups
        ]
        positions = [index + (place - (len(shown) - 1) / 2) / 10 for index in range(len(groups))]
        style, text = COLORS[name], " ".join(part for part in name if part)
        bars = steps.bar(positions, heights, 0.095, color=style[0], hatch=style[1], label=text)
        steps.bar_label(bars, fmt="%.1f", fontsize=7)
    steps.axhline(1, color="0.3", linewidth=1)
    steps.axhline(TARGETS[str(rows[0]["device"])][0], color="tab:red", linestyle="--", linewidth=1)
    steps.set_xticks(range(len(groups)), [f"{network}\nthreads: {t}" for network, t in groups])
    steps.set(yscale="log", ylabel="time of a step, in compiled float32 ones (dashed: target)")
    steps.yaxis.set_major_formatter("{x:g}")
    steps.legend(ncols=4, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.16), frameon=False)
    for backend, color in (("compiled", "tab:red"), ("eager", "tab:orange")):
        total = list(accumulate(float(row[f"{backend}_seconds"]) for row in grown))
        trainings.plot(range(1, len(total) + 1), total, color=color, label=backend)
    trainings.set(xlabel="configurations trained, one epoch each", ylabel="seconds in all")
    trainings.set_title("plain3, one process" if grown else "")
    trainings.legend()
    trainings.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)
