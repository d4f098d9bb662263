"""What spans over TLS must be like, compared with what was asked and answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.e2e.conftest import CLIENT, SERVER, ExportedSpan
from tests.e2e.tls.plan import Request

LOOPBACK = "127.0.0.1"
FLAGS = {
    *("wirespan.incomplete", "wirespan.anomalies", "error.type"),
    *("wirespan.request.body.truncated", "wirespan.response.body.truncated"),
}
"""What a span has that is not whole."""


def path_of(span: ExportedSpan) -> str:
    """Return the request's path; the URL is one of https, or this fails."""
    if span.kind == SERVER:
        assert span.attributes["url.scheme"] == "https", span
        return str(span.attributes["url.path"])
    scheme, _, rest = str(span.attributes["url.full"]).partition("://")
    assert scheme == "https", span
    return "/" + rest.partition("/")[2]


def of_kind(spans: Sequence[ExportedSpan], kind: int) -> list[ExportedSpan]:
    return [span for span in spans if span.kind == kind]


def assert_whole(span: ExportedSpan, asked: Request, library: str, version: str = "1.1") -> None:
    """Expect every attribute that tells what was said, and that it was said within TLS."""
    attributes = span.attributes
    assert not FLAGS & attributes.keys(), attributes
    assert attributes["http.request.method"] == asked.method
    assert path_of(span) == asked.path
    assert attributes["http.response.status_code"] == 200
    assert attributes.get("http.request.body.content", "") == asked.body
    assert attributes.get("http.request.body.size", 0) == len(asked.body)
    assert attributes.get("http.response.body.content") == asked.answer, attributes
    assert attributes["http.response.body.size"] == len(asked.answer)
    assert attributes["wirespan.tls"] == library
    assert attributes["network.protocol.version"] == version


def assert_exact(
    spans: Sequence[ExportedSpan],
    asked: Sequence[Request],
    port: int,
    *,
    libraries: dict[int, str],
    version: str = "1.1",
    given_up: frozenset[str] = frozenset(),
) -> None:
    """Expect one whole span of each side for each request, and none besides.

    Args:
        spans: All that were exported: one that was made of ciphertext would be among them.
        asked: No path twice.
        port: Of the server; both ends are on the loopback interface.
        libraries: `wirespan.tls` by kind of span. Only kinds in it are expected.
        version: Of HTTP.
        given_up: How clients may leave streams when only the end is missing, going by Content-Length.
    """
    expected = {request.path: request for request in asked}
    assert len(expected) == len(asked)
    seen = Counter((span.kind, span.attributes.get("http.request.method")) for span in spans)
    methods = Counter(request.method for request in asked)
    assert seen == {(kind, method): number for kind in libraries for method, number in methods.items()}
    for kind, library in libraries.items():
        by_path = {path_of(span): span for span in of_kind(spans, kind)}
        assert by_path.keys() == expected.keys()
        for path, span in by_path.items():
            if kind == CLIENT and span.attributes.get("wirespan.incomplete") in given_up:
                del span.attributes["wirespan.incomplete"], span.attributes["error.type"]
            assert_whole(span, expected[path], library, version)
    assert_addresses(spans, port)


def assert_addresses(spans: Sequence[ExportedSpan], port: int) -> None:
    """Expect that each end knows its socket, and where both are there that they mean the same connection."""
    client_ports: dict[str, set[int]] = {}
    for span in spans:
        attributes = span.attributes
        server_end, client_end = ("local", "peer") if span.kind == SERVER else ("peer", "local")
        assert attributes["network.local.address"] == attributes["network.peer.address"] == LOOPBACK
        assert attributes[f"network.{server_end}.port"] == port
        client_ports.setdefault(path_of(span), set()).add(attributes[f"network.{client_end}.port"])
        assert attributes["network.transport"] == "tcp"
    differing = {path: ports for path, ports in client_ports.items() if len(ports) != 1}
    assert not differing, f"the two ends of a request name different connections: {differing}"


def assert_addresses_unknown(span: ExportedSpan) -> None:
    """Expect that nothing is said of a connection that can't be known."""
    invented = [name for name in span.attributes if name.startswith(("network.peer.", "network.local."))]
    assert not invented


BOTH_OPENSSL = {CLIENT: "openssl", SERVER: "openssl"}
