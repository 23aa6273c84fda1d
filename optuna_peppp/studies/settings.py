"""What all measurements of a study share: kept with it, and asked for again by who goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

UNTOLD: Final[Mapping[str, Any]] = {
    "optimizer": "sgd",
    "schedule": "constant",
    "train": None,
    "sites": "modules",
}
"""What studies were measured with that do not tell it: those of older versions."""


def check_settings(
    study: str, stored: Mapping[str, Any], settings: Mapping[str, Any], option: str
) -> None:
    """Refuses to go on with a study in another way than it was begun.

    Args:
        study: The study, for the message.
        stored: Its settings, by name.
        settings: Those that are asked for.
        option: The option of the command line that chooses another study.

    Raises:
        ValueError: A setting differs; the message names the first.
    """
    for name in {**settings, **stored}:
        before, now = (told.get(name, UNTOLD.get(name)) for told in (stored, settings))
        if before != now:
            raise ValueError(
                f"{study} measures with {name} {_shown(before)}, not {_shown(now)}; ask for that "
                f"or choose another {option}"
            )


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
