"""gRPC-Web over HTTP/1.1 between a real client and server: one span per call and side, with its status."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.e2e.conftest import CLIENT, SERVER, ExportedSpan, Server, read_spans
from tests.e2e.servers.grpc_web_server import build_frame, read_frames
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

BOB = b"\x0a\x03bob"


class Calling:
    """A client and what the agent made of its calls, all of them on one connection."""

    def __init__(self, start: Callable[..., Agent], server: Server, tmp_path: Path, *options: str) -> None:
        self._file = tmp_path / "spans.jsonl"
        self._agent = start("run", "--port", str(server.port), "--spans-file", str(self._file), *options)
        self._connection = HTTPConnection(server.address, server.port)

    def call(
        self, method: str, *messages: bytes, content_type: str = "application/grpc-web+proto"
    ) -> list[bytes]:
        """Call a method; return the frames of the answer, trailers included."""
        is_text = content_type.startswith("application/grpc-web-text")
        body = b"".join(build_frame(message) for message in messages)
        fields = {"Content-Type": content_type, "X-Grpc-Web": "1", "X-Tenant": "a"}
        self._connection.request("POST", method, b64encode(body) if is_text else body, fields)
        answer = self._connection.getresponse().read()
        if is_text:
            # Groups of four characters, some of them padded, one after the other.
            answer = b"".join(b64decode(answer[at : at + 4]) for at in range(0, len(answer), 4))
        return [content for _, content in read_frames(answer)]

    def end(self) -> dict[int, list[ExportedSpan]]:
        """End client and agent; return the spans of each side, by start."""
        self._connection.close()
        self._agent.stop()
        spans = read_spans(self._file)
        return {kind: [span for span in spans if span.kind == kind] for kind in (CLIENT, SERVER)}


@pytest.fixture
def calling(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path
) -> Callable[..., Calling]:
    """Start the server, the agent with more options, then a client."""
    return lambda *options: Calling(agent, server(program="grpc_web_server"), tmp_path, *options)


@pytest.mark.parametrize("content_type", ["application/grpc-web+proto", "application/grpc-web-text"])
def test_calls_have_their_status_on_both_sides(calling: Callable[..., Calling], content_type: str) -> None:
    client = calling()
    echoed = client.call("/shop.Orders/Echo", BOB, content_type=content_type)
    assert echoed == [BOB, b"grpc-status:0\r\nx-served-by:a\r\n"]
    client.call("/shop.Orders/Find", b"\x08\x11", content_type=content_type)
    assert client.call("/shop.Orders/Nothing", b"", content_type=content_type) == []
    for kind, spans in client.end().items():
        echo, find, nothing = spans
        assert [span.attributes["rpc.response.status_code"] for span in spans] == [
            "OK",
            "NOT_FOUND",
            "UNIMPLEMENTED",
        ]
        for span in spans:
            attributes = span.attributes
            assert attributes["rpc.system.name"] == "grpc"
            assert attributes["wirespan.rpc.web"] is True
            assert attributes["http.request.method"] == "POST"
            assert attributes["http.response.status_code"] == 200
            assert attributes["network.protocol.version"] == "1.1"
            assert attributes["rpc.request.metadata.x-tenant"] == ["a"]
            assert attributes["wirespan.rpc.request.message_count"] == 1
            assert not {"wirespan.incomplete", "wirespan.anomalies"} & attributes.keys()
        assert (echo.name, find.name) == ("shop.Orders/Echo", "shop.Orders/Find")
        assert "error.type" not in echo.attributes
        assert find.attributes.get("error.type") == ("NOT_FOUND" if kind == CLIENT else None)
        assert find.attributes["wirespan.rpc.status_message"] == "no such order"
        assert echo.attributes["wirespan.rpc.request.messages"] == ['{1: "bob"}']
        assert echo.attributes["wirespan.rpc.response.messages"] == ['{1: "bob"}']
        assert echo.attributes["rpc.response.metadata.x-served-by"] == ["a"]
        assert [span.attributes["wirespan.rpc.response.message_count"] for span in spans] == [1, 0, 0]
        assert find.attributes["wirespan.rpc.request.messages"] == ["{1: 17}"]
        assert nothing.attributes["error.type"] == "UNIMPLEMENTED"


def test_a_stream_of_messages_beyond_the_body_limit(calling: Callable[..., Calling]) -> None:
    client = calling("--max-body", "1000")
    sent = [b"\x0a\x63" + bytes([65 + index]) * 99 for index in range(20)]
    assert client.call("/shop.Orders/Echo", *sent)[:-1] == sent
    client.call("/shop.Orders/Echo", BOB)
    for spans in client.end().values():
        long, short = spans
        attributes = long.attributes
        assert attributes["wirespan.request.body.truncated"] == "limit"
        assert attributes["wirespan.rpc.request.uncounted"] is True
        assert attributes["wirespan.rpc.request.message_count"] == 9
        # Trailers travel in the body, and were beyond what was kept of it.
        assert "rpc.response.status_code" not in attributes
        assert short.attributes["rpc.response.status_code"] == "OK"


def test_without_bodies_it_is_plain_http(calling: Callable[..., Calling]) -> None:
    client = calling("--no-bodies")
    client.call("/shop.Orders/Echo", BOB)
    for spans in client.end().values():
        (span,) = spans
        assert not [name for name in span.attributes if "rpc" in name and not name.startswith("http.")]
        assert span.attributes["http.request.body.size"] == 10
