"""Passwords of storage URLs: how a URL is shown without them, and texts that may quote them.

What is hidden is found in the text itself, not by a parser: a URL that no parser accepts holds a
password all the same.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

_HIDDEN: Final = "***"

_SECRET_NAME: Final = re.compile(r"pass|pwd|secret|token|credential|api_?key", re.IGNORECASE)
"""What the name of a secret option holds: password, sslpassword, PGPASSWORD, auth_token, ..."""

_OPTION: Final = re.compile(r"(?<=[?&;\s])([^=?&;\s]+)(\s*=\s*)('[^']*'|[^&;\s]*)")
"""An option of the query, or of a driver's own ``name=value`` words."""

_USER_INFO: Final = re.compile(r"([^:/?#]*):(.*)@", re.DOTALL)
"""User and password before the last ``@``: a password may hold ``@``, ``/`` and ``?``."""

_NO_PORT: Final = re.compile(r"([^:/?#@\[\]]+):(?!\d*(?:[,/?#]|$))([^/?#]*)")
"""What follows a colon and is no port: a password whose host was forgotten."""


def shown(storage: str) -> str:
    """The name of a storage for messages: without its passwords.

    >>> shown("mysql://me:secret@host/studies")
    'mysql://me:***@host/studies'
    >>> shown("postgresql://host/studies?user=me&password=secret")
    'postgresql://host/studies?user=me&password=***'
    """
    return _split(storage)[0]


def has_password(storage: str) -> bool:
    """Whether a storage URL holds a password."""
    return bool(_split(storage)[1])


def without_passwords(text: str, storage: str) -> str:
    """A text, such as a driver's error, without the passwords of a storage URL.

    >>> without_passwords("cannot log in with 'se%cret'", "mysql://me:se%25cret@host/studies")
    "cannot log in with '***'"
    """
    text = text.replace(storage, shown(storage))
    spellings = {
        spelling
        for secret in _split(storage)[1]
        # Who reads a URL otherwise than was meant takes a part of the password for the host.
        for part in (secret, *re.split("[@:/?#]", secret))
        for plain in (part, unquote(part), unquote_plus(part))
        for spelling in (plain, quote(plain), quote(plain, safe=""), quote_plus(plain))
    }
    for spelling in sorted(spellings - {""}, key=len, reverse=True):
        # Whole words: a password that is one letter is no reason to hide every such letter.
        text = re.sub(rf"(?<!\w){re.escape(spelling)}(?!\w)", _HIDDEN, text)
    return text


def _split(storage: str) -> tuple[str, list[str]]:
    """The storage without its secrets, and those."""
    secrets: list[str] = []

    def option(match: re.Match[str]) -> str:
        name, equals, value = match.groups()
        if not _SECRET_NAME.search(unquote_plus(name)):
            return match[0]
        secrets.append(value)
        return f"{name}{equals}{_HIDDEN}"

    def user_info(match: re.Match[str]) -> str:
        secrets.append(match[2])
        return f"{match[1]}:{_HIDDEN}@"

    def no_port(match: re.Match[str]) -> str:
        secrets.append(match[2])
        return f"{match[1]}:{_HIDDEN}"

    scheme, separator, rest = storage.partition("//")
    if not separator:  # a path, or a URL that lost its slashes
        scheme, rest = "", storage
    rest = _OPTION.sub(option, rest)
    if not (scheme.startswith("sqlite") and rest.startswith("/")):  # whose rest is a path
        rest, found = _USER_INFO.subn(user_info, rest, count=1)
        if separator and not found:
            rest = _NO_PORT.sub(no_port, rest, count=1)
    return f"{scheme}{separator}{rest}", secrets
