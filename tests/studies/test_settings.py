from __future__ import annotations

from typing import Any

import pytest

from optuna_peppp.studies.settings import check_settings

STORED = {"data": "cats", "epochs": 6, "format_a": ["1-4-3", "1-5-3"]}


def test_the_same_settings_pass() -> None:
    check_settings("study 'x'", STORED, dict(reversed(STORED.items())), "--storage")


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"epochs": 2, "data": "dogs"}, "data cats, not dogs"),
        ({"epochs": 2}, "epochs 6, not 2"),
        ({"format_a": ["1-4-3"]}, "format_a 1-4-3, 1-5-3, not 1-4-3"),
        ({"colour": "red"}, "colour None, not red"),
    ],
)
def test_the_first_difference_is_named(change: dict[str, Any], difference: str) -> None:
    message = f"study 'x' measures with {difference}; ask for that or choose another --storage"
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_settings("study 'x'", STORED, STORED | change, "--storage")


def test_what_is_stored_and_not_asked_for_differs_too() -> None:
    with pytest.raises(ValueError, match="study 'x' measures with colour red, not None"):
        check_settings("study 'x'", STORED | {"colour": "red"}, STORED, "--storage")


def test_older_studies_did_not_tell_their_optimizer() -> None:
    check_settings("study 'x'", STORED, STORED | {"optimizer": "sgd"}, "--storage")
    with pytest.raises(ValueError, match="study 'x' measures with optimizer sgd, not adamw"):
        check_settings("study 'x'", STORED, STORED | {"optimizer": "adamw"}, "--storage")
