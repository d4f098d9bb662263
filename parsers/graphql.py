"""GraphQL over HTTP: which operations a request asks for, and how many errors its response has.

Owns the shapes in which a request carries GraphQL: JSON members, a batch of them, URL parameters, a document
as it is, and the hash of a persisted one (GraphQL over HTTP, §5, §6 and appendix A; Apollo's persisted
queries), and in which responses hold errors (also GraphQL over SSE, and incremental delivery over HTTP). It
must not know HTTP messages (`application`) or the language itself (`graphql_document`).

Contract: a request whose `query` is no GraphQL document is no GraphQL request. What is reported is certain;
the rest is None.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_plus

from parsers.graphql_document import choose_operation, is_name, parse_document
from parsers.http_exchange import GraphQlOperation, GraphQlRequest
from parsers.json_text import CutText, JsonReading, read_json
from parsers.limits import ParserLimits

_SHA_256 = re.compile(r"[0-9A-Fa-f]{64}")
_DOCUMENT_ID = re.compile(r"sha256:[0-9A-Fa-f]{64}")
_PARAMETER = re.compile(r"(?:^|&)(query|operationName|extensions|documentId)=([^&#]*+)")
_ERRORS_FIRST = re.compile(rb'(?:\xef\xbb\xbf)?[ \t\n\r]*+\{[ \t\n\r]*+"errors"')
_DATA_FIRST = re.compile(rb'(?:\xef\xbb\xbf)?[ \t\n\r]*+\{[ \t\n\r]*+"data"')


def parse_graphql_json(
    reading: JsonReading, limits: ParserLimits, counts: dict[str, int]
) -> GraphQlRequest | None:
    """Return the operations of a JSON body; None when it is no GraphQL request."""
    value = reading.value
    items: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(item, dict) for item in items):
        return None
    named = min(len(items), limits.max_operations)
    room = limits.max_document
    operations: list[GraphQlOperation] = []
    for index, item in enumerate(items[:named]):
        share = room // (named - index)
        # Only the last item may be cut, and then it may lack any member.
        whole = reading.whole or index < len(items) - 1
        operation = _parse_members(item, share, counts, whole=whole)
        if operation is None:
            if whole:
                return None
            items = items[:index]
            break
        operations.append(operation)
        query = item.get("query")
        room -= min(share, len(query)) if isinstance(query, str) else 0
    if not operations:
        return None
    counts["operations_unnamed"] += len(items) - len(operations)
    return GraphQlRequest(operations, len(items))


def parse_graphql_parameters(
    query_string: str, limits: ParserLimits, counts: dict[str, int]
) -> GraphQlRequest | None:
    """Return the operation that the query of a URL asks for; None when there is none.

    Parameters that occur twice mean what the server makes of them, so they mean nothing here.
    """
    members = _read_parameters(query_string)
    if members is None:
        return None
    if "extensions" in members:
        extensions = read_json(members["extensions"], cut=False)
        members["extensions"] = extensions.value if extensions is not None else None
    operation = _parse_members(members, limits.max_document, counts, whole=True)
    return None if operation is None else GraphQlRequest([operation], 1)


def parse_graphql_text(
    text: str, query_string: str, limits: ParserLimits, counts: dict[str, int], *, cut: bool
) -> GraphQlRequest | None:
    """Return the operation of a body that is a document (`application/graphql`).

    `operationName` may be among the parameters of the URL.
    """
    parameters = _read_parameters(query_string)
    members = {**(parameters or {}), "query": CutText(text) if cut else text}
    operation = _parse_members(members, limits.max_document, counts, whole=parameters is not None)
    return None if operation is None else GraphQlRequest([operation], 1)


def count_errors(content: bytes, charset: str, *, cut: bool) -> int | None:
    """Return how many `errors` a response has, all of a batch together; None when that is unknown.

    GraphQL specification, §7.1: a response has `errors`, or else there were none and it has `data`. Of a
    response that was cut they are known only where they come first, as §7.1 advises.
    """
    if cut and _ERRORS_FIRST.match(content) is None:
        return None
    if not cut and b'"errors"' not in content and b"\\u00" not in content and _DATA_FIRST.match(content):
        # Only an escape could hide that name, by a letter of it; so a look is as good as reading it all.
        return 0
    reading = read_json(content.decode(charset, "replace"), cut=cut)
    if reading is None:
        return None
    if isinstance(reading.value, dict):
        return _count_errors_of(reading.value, whole=reading.whole)
    if not isinstance(reading.value, list) or not reading.whole:
        return None
    total = 0
    for item in reading.value:
        count = _count_errors_of(item, whole=True) if isinstance(item, dict) else None
        if count is None:
            return None
        total += count
    return total


def count_streamed_errors(messages: list[Any], *, whole: bool) -> int | None:
    """Return how many errors there are in the results of one operation that came one after the other.

    The results are those of a subscription (GraphQL over SSE, distinct connections), of incremental delivery
    in its older and newer forms, or of a subscription over multipart, in which a heartbeat is `{}` and a
    result is a `payload`. `whole` says that none is missing. Otherwise the errors seen count, and without any
    the number is unknown (None).
    """
    total = 0
    is_answered = False
    has_next = False
    for message in messages:
        if not isinstance(message, dict):
            return None
        if "id" in message and "payload" in message:
            # Of one connection for all operations: it may belong to another one.
            continue
        has_next = message.get("hasNext", has_next) is True
        for result in (message, message.get("payload")):
            count = _count_errors_of_part(result) if isinstance(result, dict) else None
            if count is not None:
                is_answered = True
                total += count
    if not is_answered:
        return None
    return total if total or (whole and not has_next) else None


def count_session_errors(messages: list[Any], ids: set[str], *, whole: bool) -> int | None:
    """Return with how many errors a server answers the operations with these ids over a WebSocket.

    A result is `next`, in the older protocol `data`; an operation that was not executed is `error`, with a
    list of errors, in the older protocol with one. None when nothing was answered. When messages are missing
    (not `whole`), the errors seen count, and without any the number is unknown.
    """
    total = 0
    is_answered = False
    for message in messages:
        identity = message.get("id") if isinstance(message, dict) else None
        if not isinstance(identity, str) or identity not in ids:
            continue
        kind, payload = message.get("type"), message.get("payload")
        if kind == "error":
            is_answered = True
            total += len(payload) if isinstance(payload, list) else 1
        elif kind in ("next", "data") and isinstance(payload, dict):
            count = _count_errors_of_part(payload)
            is_answered = is_answered or count is not None
            total += count or 0
    return total if total or (is_answered and whole) else None


def _count_errors_of_part(part: dict[str, Any]) -> int | None:
    """Return the errors of a result, or of a part of one; None when it is neither."""
    total = None
    if "errors" in part or "data" in part or "items" in part:
        errors = part.get("errors")
        total = len(errors) if isinstance(errors, list) else 0 if errors is None else None
    for name in ("incremental", "completed"):
        inner = part.get(name)
        for item in inner if isinstance(inner, list) else ():
            # A member of `completed` that went well has neither data nor errors.
            count = _count_errors_of_part(item) if isinstance(item, dict) else None
            total = (total or 0) + (count or 0)
    return total


def _count_errors_of(response: dict[str, Any], *, whole: bool) -> int | None:
    if "errors" not in response:
        return 0 if whole and "data" in response else None
    errors = response["errors"]
    if isinstance(errors, list):
        return len(errors)
    # Some servers write `null` for none.
    return 0 if errors is None else None


def _read_parameters(query_string: str) -> dict[str, Any] | None:
    """Return the parameters of GraphQL in the query of a URL; None when one occurs twice."""
    members: dict[str, Any] = {}
    for name, value in _PARAMETER.findall(query_string):
        if name in members:
            return None
        members[name] = unquote_plus(value)
    return members


def _parse_members(
    members: dict[str, Any], limit: int, counts: dict[str, int], *, whole: bool
) -> GraphQlOperation | None:
    """Return the operation of one request; None when it is none of GraphQL.

    `whole` says that no member is missing. At most `limit` characters of its document are read.
    """
    query = members.get("query")
    name = members.get("operationName")
    if not isinstance(name, str) or not name:
        name = None
    cut = isinstance(query, CutText)
    text = query.text if isinstance(query, CutText) else query
    if isinstance(text, str) and text:
        if len(text) > limit:
            counts["documents_cut"] += 1
        document = parse_document(text, limit, cut=cut)
        if document is None:
            return None
        return choose_operation(document, name, name_is_known=whole or "operationName" in members)
    if not text and _has_persisted_document(members):
        return GraphQlOperation(name if name is not None and is_name(name) else None, None)
    return None


def _has_persisted_document(members: dict[str, Any]) -> bool:
    extensions = members.get("extensions")
    persisted = extensions.get("persistedQuery") if isinstance(extensions, dict) else None
    digest = persisted.get("sha256Hash") if isinstance(persisted, dict) else None
    document_id = members.get("documentId")
    return (isinstance(digest, str) and _SHA_256.fullmatch(digest) is not None) or (
        isinstance(document_id, str) and _DOCUMENT_ID.fullmatch(document_id) is not None
    )
