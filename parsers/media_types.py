"""Media types as senders write them: which content is text, and in which charset.

Owns the table of textual types and the reading of Content-Type. It must not look at content (`content`).

Contract: what a sender wrote wrongly costs nothing but certainty. A type that is textual by this table is
text whatever its bytes are; any other is text only where its bytes prove it, so that binary content is never
garbled. Results are remembered for MAX_TYPES_REMEMBERED values of the field.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache
from typing import Final, NamedTuple

MAX_TYPES_REMEMBERED: Final = 256
"""Values of Content-Type kept. A service has tens of them; boundaries of multipart push each other out."""

UTF_8: Final = "utf-8"

# Of the family `application`; everything under `text` is textual (RFC 2046 §4.1).
_TEXTUAL: Final = frozenset(
    """
        json x-json json5 jsonp hjson jsonrequest json-rpc jsonrpc json+protobuf x-amz-json-1.0
        x-amz-json-1.1 dns-json csp-report graphql x-graphql

        x-ndjson ndjson nd-json x-nd-json jsonl x-jsonl json-lines jsonlines x-jsonlines x-json-lines ldjson
        x-ldjson json-seq x-json-seq json-stream x-json-stream

        xml x-xml xml-dtd xml-external-parsed-entity x-xhtml

        yaml x-yaml vnd.yaml toml x-toml properties x-properties

        x-www-form-urlencoded www-form-urlencoded form-urlencoded

        javascript x-javascript ecmascript x-ecmascript typescript x-typescript x-httpd-php x-php x-sh
        x-shellscript x-csh x-perl x-python x-ruby x-powershell node

        sql x-sql cql sparql-query sparql-update n-triples n-quads trig turtle x-turtle n3 edn

        csv x-csv openmetrics-text x-protobuf-text logplex-1 x-log sdp rtf x-tex x-latex mbox
        x-mpegurl vnd.apple.mpegurl jwt jose x-pem-file pem-certificate-chain
    """.split()  # noqa: SIM905 - a table of words reads better than a column of quoted ones
)
"""Subtypes by what they hold: JSON under the names that APIs give it (RFC 8259; the older ones from before
it, those of AWS and DNS resolvers, CSP reports); JSON by lines and sequences (RFC 7464), which have no
registered name for lines; XML; configuration; forms, also without their `x-`; programs and scripts, which
RFC 9239 moved to `text` and servers did not; queries and triples; and what is lines of text by its format:
metrics, logs, session descriptions (RFC 8866), playlists (RFC 8216), mailboxes, tokens and certificates in
their ASCII form. What merely is often text (`octet-stream`) is not here."""

_TEXTUAL_SUFFIXES: Final = ("+json", "+xml", "+yaml", "+json-seq", "+ndjson", "+jsonl", "+jwt", "+prettyjws")
"""Structured syntax suffixes of text (RFC 6839, RFC 7303, RFC 8091, RFC 9512; Docker's signed manifests).
`+zip`, `+cbor`, `+gzip` and others are binary."""

_WRAPPERS: Final = ("multipart/", "message/")
_BY_CONTENT: Final = frozenset(("application/http",))
"""Types that wrap other content (RFC 2046 §5, RFC 9112 §10): text where all that they wrap is."""

_CHARSET = re.compile(r";[ \t]*charset=[ \t]*[\"']?([A-Za-z0-9_.:+-]{1,40})", re.IGNORECASE)
_NOT_CHARSETS: Final = frozenset(("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"))
"""Python codecs that decode to text but are no charset; some take quadratic time."""
_MEDIA_TYPE = re.compile(r"[!#$&^_.+*a-z0-9-]+/[!#$&^_.+*a-z0-9-]+")
"""RFC 9110 §8.3.1 in lower case, without the marks that no type has."""


class ContentType(NamedTuple):
    """What a Content-Type says about the text in a body."""

    media_type: str
    """Lower-cased, without parameters; empty when it is none, or says two different things."""
    charset: str | None
    """Python codec name of the text; None when the content is binary."""
    is_text: bool
    """The content is text by its type. Otherwise it is text in `charset` only where its bytes prove it."""


@lru_cache(maxsize=MAX_TYPES_REMEMBERED)
def find_charset(value: bytes) -> str | None:
    """Return the Python codec name of content that is text by its type, None of any other."""
    read = read_content_type(value)
    return read.charset if read.is_text else None


@lru_cache(maxsize=MAX_TYPES_REMEMBERED)
def read_content_type(value: bytes) -> ContentType:
    """Read the value of the field; a repeated field is a list.

    The default charset is UTF-8. A charset that Python does not know is read as Latin-1, which keeps every
    byte.
    """
    text = value.decode("latin-1")
    media_type = _find_media_type(text)
    is_text = _is_textual(media_type)
    match = _CHARSET.search(text)
    if match is not None:
        return ContentType(media_type, _find_codec(match[1].lower()), is_text)
    may_be_text = is_text or not media_type or media_type.startswith(_WRAPPERS) or media_type in _BY_CONTENT
    return ContentType(media_type, UTF_8 if may_be_text else None, is_text)


def _find_media_type(text: str) -> str:
    """Return the type without parameters, quotes and repetitions."""
    members = {
        member.strip("\"' \t").lower() for member in text.partition(";")[0].split(",") if not member.isspace()
    }
    members.discard("")
    if len(members) != 1:
        return ""
    member = members.pop()
    return member if _MEDIA_TYPE.fullmatch(member) is not None else ""


def _is_textual(media_type: str) -> bool:
    family, _, subtype = media_type.partition("/")
    return family == "text" or subtype in _TEXTUAL or subtype.endswith(_TEXTUAL_SUFFIXES)


def _find_codec(label: str) -> str:
    try:
        name = codecs.lookup(label).name
        # Raises LookupError for codecs between bytes and bytes, which are no charset either.
        b"x".decode(name, "replace")
    except (LookupError, UnicodeError):
        return "latin-1"
    return "latin-1" if name in _NOT_CHARSETS else name
