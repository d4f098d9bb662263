"""Which names announce a credential.

Names of headers, query parameters, form fields, JSON members, command-line options. Owns the list and how
names are compared. It must not know where a name was found.

Contract: names are compared without case, after percent-decoding. A name is sensitive
when it contains one of the telling words or is, as a whole, one of the known short ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote_plus

_WORDS = re.compile(r"token|secret|passw|api[-_]?key|session|credential|jwt|assertion")

SCREEN_WORDS = (
    "token",
    "secret",
    "passw",
    "apikey",
    "api_key",
    "api-key",
    "session",
    "credential",
    "jwt",
    "assertion",
)
"""Lower-case strings, one of which occurs in any name that contains a telling word."""

# Whole names. The signatures are those that the semantic conventions name for `url.full`; the rest are the
# short names under which forms and APIs carry what the telling words do not catch.
_KNOWN = frozenset(
    """
        x-amz-signature x-goog-signature awsaccesskeyid signature sig
        access_key access-key accesskey private_key private-key privatekey passphrase pass pwd pin otp totp
        cvv cvv2 cvc ssn card_number card-number cardnumber pan sid samlresponse authorization auth csrf xsrf
    """.split()  # noqa: SIM905 - a table of words reads better than a column of quoted ones
)

# `user[password]`, `credentials.pin`, `items[0][pwd]`: every part is a name.
_PARTS = re.compile(r"[^\[\].]+")

MAX_NAMES_REMEMBERED = 4096
"""Verdicts kept. A service has tens of names; a scanner's invented ones push each other out."""


class SensitiveNames:
    """The judge of names, with the names a configuration adds."""

    __slots__ = ("is_sensitive", "whole")

    def __init__(self, extra: Iterable[str] = ()) -> None:
        self.whole = _KNOWN | {name.strip().lower() for name in extra if name.strip()}
        """Whole names in lower case, without those that only contain a telling word."""
        self.is_sensitive = lru_cache(maxsize=MAX_NAMES_REMEMBERED)(self._judge)
        """Whether a value under this name is a credential; the name as it was found."""

    def _judge(self, name: str) -> bool:
        if "%" in name or "+" in name:
            name = unquote_plus(name)
        name = name.strip().lower()
        if _WORDS.search(name) is not None or name in self.whole:
            return True
        return any(part in self.whole for part in _PARTS.findall(name))
