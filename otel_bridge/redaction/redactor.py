"""Credentials out of everything a span would carry: headers, URLs, bodies, command lines.

Owns which rule applies to which part of a message. It must not know of spans. What a secret looks like is in
`secret_shapes`, which names announce one in `sensitive_names`, how bodies are read in `body_redaction`.

Contract: every function returns the redacted value and the number of values replaced; a value without a
secret comes back as the same object. Redaction happens before anything is queued, written, logged or cut to a
length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote_plus

from otel_bridge.redaction.assignments import redact_assignments, redact_elements
from otel_bridge.redaction.bodies import (
    redact_event_members,
    redact_form_parts,
    redact_members,
    redact_url_parameters,
)
from otel_bridge.redaction.secret_shapes import REDACTED, redact_shapes
from otel_bridge.redaction.sensitive_names import SensitiveNames
from otel_bridge.redaction.text_folding import fold_text

# RFC 9110 §11.6.2: the scheme names a method, not a person. Only registered schemes and the common
# unregistered ones stay: the first word of anything else may be the secret itself.
_SCHEMES = frozenset(
    """
        basic bearer concealed digest dpop gnap hoba mutual negotiate oauth privatetoken scram-sha-1
        scram-sha-256 vapid aws4-hmac-sha256 aws4-ecdsa-p256-sha256 ntlm apikey token key
    """.split()  # noqa: SIM905 - a table of words reads better than a column of quoted ones
)
_CREDENTIALS = frozenset({"authorization", "proxy-authorization"})
_COOKIES = frozenset({"cookie", "cookie2"})
_SET_COOKIES = frozenset({"set-cookie", "set-cookie2"})
_WHOLE_VALUE = frozenset({"x-forwarded-client-cert"})
# Browsers can send no header with a WebSocket, so Kubernetes takes the token as a subprotocol.
_BEARER_SUBPROTOCOL = "base64url.bearer.authorization.k8s.io."
_BEARER_SUBPROTOCOL_TOKEN = re.compile(re.escape(_BEARER_SUBPROTOCOL) + r"[^\s,]+")

# Text of names and values that is neither JSON nor a form: settings, mail, and what wraps whole messages with
# their heads; and programs, queries and triples, in which a value is quoted.
_SETTINGS = re.compile(
    r"multipart/|message/|yaml|toml|properties|x-sh|x-csh|application/(?:http|mbox|rtf|sdp|x-log|logplex)"
)
_CODE = re.compile(
    r"javascript|ecmascript|typescript|perl|python|ruby|powershell|php|sql|sparql|triples|quads|trig|turtle"
    r"|x-tex|latex|application/(?:node|n3|edn|cql|json5|jsonp|hjson)"
)
_HEAD_WORDS = ("cookie", "x-forwarded-client-cert")


class Redactor:
    """The rules, with the names a configuration adds to them."""

    __slots__ = ("_names",)

    def __init__(self, extra_names: Iterable[str] = ()) -> None:
        self._names = SensitiveNames(extra_names)

    def is_sensitive_header(self, name: str) -> bool:
        """Whether the value of this header (name in lower case) never leaves as it is."""
        return (
            name in _CREDENTIALS
            or name in _COOKIES
            or name in _SET_COOKIES
            or name in _WHOLE_VALUE
            or self._names.is_sensitive(name)
        )

    def is_sensitive_name(self, name: str) -> bool:
        """Whether a value under this name, in any letter case, never leaves as it is."""
        return self.is_sensitive_header(name.lower())

    def sensitive_header(self, name: str, value: str) -> tuple[str, int]:
        """Redact the value of a header for which `is_sensitive_header` holds."""
        if not value:
            return value, 0
        if name in _CREDENTIALS:
            scheme, space, _ = value.partition(" ")
            return (f"{scheme} {REDACTED}" if space and scheme.lower() in _SCHEMES else REDACTED), 1
        if name in _COOKIES:
            return _redact_cookies(value)
        if name in _SET_COOKIES:
            pair, semicolon, attributes = value.partition(";")
            redacted, count = _redact_cookies(pair)
            return redacted + semicolon + attributes, count
        return REDACTED, 1

    def header(self, value: str) -> tuple[str, int]:
        """Redact what any header's value may hold: URLs with credentials, tokens, card numbers."""
        redacted, count = redact_url_parameters(value, self._names)
        if _BEARER_SUBPROTOCOL in redacted:
            redacted, found = _BEARER_SUBPROTOCOL_TOKEN.subn(_BEARER_SUBPROTOCOL + REDACTED, redacted)
            count += found
        if "%" in redacted:
            return self._percent_encoded(redacted, count)
        redacted, found = redact_shapes(redacted)
        return redacted, count + found

    def path(self, path: str) -> tuple[str, int]:
        """Redact a URL path: matrix parameters by name, and whatever has the shape of a secret."""
        return self.header(path)

    def query(self, query: str) -> tuple[str, int]:
        """Redact a query or a urlencoded form: values under sensitive names and those that look secret."""
        count = 0
        parameters = query.split("&")
        for index, parameter in enumerate(parameters):
            name, equals, value = parameter.partition("=")
            if not equals:
                parameters[index], found = self._percent_encoded(name, 0)
            elif value and self._names.is_sensitive(name):
                parameters[index], found = f"{name}={REDACTED}", 1
            else:
                redacted, found = self._percent_encoded(value, 0)
                parameters[index] = f"{name}={redacted}"
            count += found
        return ("&".join(parameters) if count else query), count

    def _percent_encoded(self, value: str, count: int) -> tuple[str, int]:
        """Redact shapes that may be percent-encoded: a hit behind the encoding costs the whole value."""
        redacted, found = redact_shapes(value)
        if "%" in redacted:
            decoded = unquote_plus(redacted)
            if redact_shapes(decoded)[1] or redact_url_parameters(decoded, self._names)[1]:
                return REDACTED, count + found + 1
        return redacted, count + found

    def text(self, content: str, content_type: str, *, truncated: bool) -> tuple[str, int]:
        """Redact a textual body; `truncated` says that the content ends before the body did."""
        media_type = content_type.lower()
        if "form-urlencoded" in media_type:
            return self._form(content, truncated=truncated)
        count = 0
        folded = fold_text(content)
        if "multipart/" in media_type:
            content, count = redact_form_parts(content, self._names)
        if '"' in content:
            redact = redact_event_members if "event-stream" in media_type else redact_members
            content, found = redact(content, folded, self._names)
            count += found
        kind = media_type.partition(";")[0]
        if "xml" in kind:
            content, found = redact_elements(content, self._names.words, self._names.is_sensitive)
            count += found
        has_lines = _SETTINGS.search(kind) is not None
        if has_lines or _CODE.search(kind) is not None:
            words = (*self._names.words, *_HEAD_WORDS)
            content, found = redact_assignments(content, words, self.is_sensitive_name, is_code=not has_lines)
            count += found
        content, found = redact_url_parameters(content, self._names)
        count += found
        content, found = redact_shapes(content, folded, truncated=truncated)
        return content, count + found

    def _form(self, content: str, *, truncated: bool) -> tuple[str, int]:
        content, count = self.query(content)
        if truncated:
            content, found = redact_shapes(content, truncated=True)
            count += found
        return content, count

    def binary(self, content: bytes, content_type: str, *, truncated: bool) -> tuple[bytes, int]:
        """Redact a body that is not textual as a whole but may hold text, as multipart forms do."""
        # Latin-1 maps every byte to one character and back, so the rules for text apply and all else is
        # untouched.
        text, count = self.text(content.decode("latin-1"), content_type, truncated=truncated)
        return (text.encode("latin-1") if count else content), count

    def named_text(self, name: str, value: str) -> str:
        """Redact a label or an annotation: all of it under a sensitive name, else what looks secret."""
        if self.is_sensitive_header(name.lower()):
            return REDACTED
        return self.text(value, "", truncated=False)[0]

    def command_line(self, arguments: Sequence[str]) -> str:
        """Return a process's command line as one string, by the same rules.

        `--password=x`, `--password x` and `PASSWORD=x` lose their value; every argument loses what looks like
        a secret.
        """
        out = []
        value_is_secret = False
        for argument in arguments:
            name, equals, value = argument.partition("=")
            sensitive = self._names.is_sensitive(name.lstrip("-"))
            if value_is_secret and not argument.startswith("-"):
                out.append(REDACTED)
                value_is_secret = False
            elif equals and value and sensitive:
                out.append(f"{name}={REDACTED}")
            else:
                out.append(self.text(argument, "", truncated=False)[0])
                value_is_secret = sensitive and not equals and argument.startswith("-")
        return " ".join(out)


def _redact_cookies(value: str) -> tuple[str, int]:
    """Redact the values of cookie pairs (RFC 6265 §4.2.1); a pair without a name is a value."""
    pairs = value.split(";")
    count = 0
    for index, pair in enumerate(pairs):
        name, equals, content = pair.partition("=")
        if equals and content.strip():
            pairs[index] = f"{name}={REDACTED}"
            count += 1
        elif not equals and name.strip():
            pairs[index] = name[: len(name) - len(name.lstrip())] + REDACTED
            count += 1
    return ";".join(pairs), count
