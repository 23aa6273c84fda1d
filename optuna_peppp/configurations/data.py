"""Names of data sets, read without opening one."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal, cast, get_args

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.plugins import is_plugin
from optuna_peppp.text import quoted

DataKind = Literal["digits", "cifar10", "cifar100", "npz", "folder", "text", "python"]
"""What stands before the colon of a data set's name, or is all of it."""

DATA_KINDS: Final[tuple[DataKind, ...]] = get_args(DataKind)

DATA_FORMS: Final = (
    "digits, cifar10, cifar100, cifar100:SUPERCLASS (such as cifar100:flowers), "
    "npz:FILE (MedMNIST layout), folder:DIRECTORY (a folder of images per class), "
    "text:FILE-OR-FOLDER or python:TEXT (such as python:topics)"
)
"""The names in words."""

CIFAR100_SUPERCLASSES: Final[dict[str, tuple[str, ...]]] = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man_made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_sized_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non_insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
"""The fine classes of every superclass of CIFAR-100 (Krizhevsky, 2009)."""


TEXT_KINDS: Final[tuple[DataKind, ...]] = ("text", "python")
"""Those of bytes, whose next one is to be told."""

PYTHON_TEXTS: Final = (
    *("topics", "sources", "docstrings", "headers", "bytecode"),
    *("names", "characters", "entities", "codecs", "calendars"),
)
"""Texts that every installation of Python carries (``lowprecision.datasets.python_texts``)."""

_WHOLE: Final = ("digits", "cifar10", "cifar100")
"""Kinds that are a whole name."""

_SURE: Final = 0.8
"""How near the name of a kind is to one that was misspelled, and no module of the user's own."""


def parse_name(name: str) -> tuple[DataKind, str]:
    """The kind of a data set and what follows its colon.

    Raises:
        ValueError: No name of a data set.
    """
    if isinstance(name, str):
        kind, colon, argument = name.partition(":")
        if kind == "cifar100" and colon:
            check_choice("the superclass of cifar100", argument, CIFAR100_SUPERCLASSES)
            return "cifar100", argument
        if kind == "python" and argument:
            check_choice("the text of python", argument, PYTHON_TEXTS)
            return "python", argument
        if (kind in ("npz", "folder", "text") and argument) or name in _WHOLE:
            return cast(DataKind, kind), argument
    meant = _meant(name)
    hint = f". Did you mean {meant!r}?" if meant else ""
    raise ValueError(f"data set must be {DATA_FORMS}; got {quoted(name)}{hint}")


def is_own(name: object) -> bool:
    """Whether a data set is a function of the user's own, ``package.module:function``."""
    if not isinstance(name, str) or not is_plugin(name):
        return False
    return not get_close_matches(name.partition(":")[0], DATA_KINDS, 1, _SURE)


def is_text(name: str) -> bool:
    """Whether a data set is one of bytes, whose next one is to be told."""
    return not is_own(name) and parse_name(name)[0] in TEXT_KINDS


def _meant(name: object) -> str | None:
    """The name that was probably meant: of what lies on the disk, else the nearest in spelling."""
    if not isinstance(name, str) or not name:
        return None
    if name in CIFAR100_SUPERCLASSES:
        return f"cifar100:{name}"
    kind, colon, argument = name.partition(":")
    near = get_close_matches(kind, DATA_KINDS, 1)
    if colon:
        return f"{near[0]}:{argument}" if near and argument else None
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return f"folder:{name}"
        if path.suffix.lower() == ".npz" or path.is_file():
            return f"npz:{name}"
    except (OSError, ValueError, RuntimeError):  # too long for a path, or with zeros
        pass
    return near[0] if near and near[0] in _WHOLE else None
