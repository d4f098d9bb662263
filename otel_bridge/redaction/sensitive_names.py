"""Which names announce a credential.

Names of headers, query parameters, form fields, JSON members, command-line options. Owns the list and how
names are compared. It must not know where a name was found.

Contract: names are compared without case, after percent-decoding. A name is sensitive
when it contains one of the telling words or is, as a whole or in one of its parts, one of the known short
ones. Whether a text can hold such a name at all is decided on its folded copy (`text_folding`), where names
that were found harmless before are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote_plus

from otel_bridge.redaction.text_folding import fold_text

_WORDS = re.compile(r"token|secret|passw|api[-_]?key|session|credential|jwt|assertion")

# The same words, folded.
_FOLDED_WORDS = (b"token", b"secret", b"passw", b"apikey", b"session", b"credential", b"jwt", b"assertion")

# The same, each spelling by itself.
_LITERAL_WORDS = (
    *("token", "secret", "passw", "apikey", "api-key", "api_key", "session", "credential", "jwt"),
    "assertion",
)

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
"""Names whose answer is kept. A service has tens of them; a scanner's invented ones push each other out."""

MAX_REMEMBERED_NAME_LENGTH = 128
"""Characters; a longer name is made up, and 4096 of them could be as large as the heads they came in."""


class SensitiveNames:
    """Which names are sensitive: the known ones, and those that a configuration adds."""

    __slots__ = ("_harmless", "_match", "_quoted_name", "_whole", "words")

    def __init__(self, extra: Iterable[str] = ()) -> None:
        self._whole = _KNOWN | {name.strip().lower() for name in extra if name.strip()}
        self._match = lru_cache(maxsize=MAX_NAMES_REMEMBERED)(self._match_afresh)
        names = b"|".join(re.escape(fold_text(name)) for name in self._whole)
        self._quoted_name = re.compile(b'["\\[\\].](?:%b)["\\[\\].]' % names)
        self._harmless: set[bytes] = set()
        self.words = (*_LITERAL_WORDS, *sorted(self._whole))
        """Each name for which `is_sensitive` holds contains one of these, unless it is percent-encoded."""

    def is_sensitive(self, name: str) -> bool:
        """Whether a value under this name is a credential; the name as it was found."""
        return self._match(name) if len(name) <= MAX_REMEMBERED_NAME_LENGTH else self._match_afresh(name)

    @property
    def remembered(self) -> tuple[int, int]:
        """How many answers are kept, and how many folded names; each at most MAX_NAMES_REMEMBERED."""
        return self._match.cache_info().currsize, len(self._harmless)

    def may_name_member(self, folded: bytes) -> bool:
        """Whether a text can hold a JSON member for whose name `is_sensitive` holds, by its folded copy.

        A name that is hidden behind escapes does not count.
        """
        # In the folded copy nothing stands between a member's name, its closing quote and the colon.
        names = [before.rpartition(b'"')[2] for before in folded.split(b'":')[:-1]]
        harmless = self._harmless
        if harmless.issuperset(names):
            return False
        unknown = set(names) - harmless
        quoted = b'"%b"' % b'"'.join(unknown)
        if any(word in quoted for word in _FOLDED_WORDS) or self._quoted_name.search(quoted) is not None:
            return True
        for name in unknown:
            if len(name) <= MAX_REMEMBERED_NAME_LENGTH:
                if len(harmless) >= MAX_NAMES_REMEMBERED:
                    harmless.clear()
                harmless.add(name)
        return False

    def _match_afresh(self, name: str) -> bool:
        if "%" in name or "+" in name:
            name = unquote_plus(name)
        name = name.strip().lower()
        if _WORDS.search(name) is not None or name in self._whole:
            return True
        return any(part in self._whole for part in _PARTS.findall(name))
