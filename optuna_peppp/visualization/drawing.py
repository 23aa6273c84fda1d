"""What all figures share: plotly, colors and text."""

from __future__ import annotations

import html
from typing import Any, Final

from optuna_peppp.configurations.space import ConfigurationSpace

# Okabe and Ito's palette, which the color-blind can tell apart.
BLUE: Final = "#0072B2"
RED: Final = "#D55E00"
LINES: Final = (BLUE, RED, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GRAY: Final = "#767676"
SCALE: Final = "Cividis"
"""Colors of numbers: dark blue to yellow, in even steps to every eye."""


def require_plotly() -> Any:
    """The module ``plotly.graph_objects``.

    Raises:
        ImportError: plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as problem:
        raise ImportError(
            "figures need plotly, which cannot be imported; "
            'install it with `pip install "optuna_peppp[visualization]"`'
        ) from problem
    return go


def plain(text: str) -> str:
    """Text as plotly shows it, whatever markup it resembles.

    >>> plain("a<b>")
    'a&lt;b&gt;'
    """
    return html.escape(text, quote=False)


def params_text(space: ConfigurationSpace, index: int) -> str:
    """The parameters of a configuration, one a line.

    >>> params_text(ConfigurationSpace({"format_a": ["1-4-3"], "learning_rate": [0.1]}), 0)
    'format_a: 1-4-3<br>learning_rate: 0.1'
    """
    lines = (f"{name}: {value}" for name, value in space.params(index).items())
    return "<br>".join(map(plain, lines))
