"""gRPC between a real client and server over plaintext: one span per call and side, with its status."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.e2e.conftest import CLIENT, SERVER, ExportedSpan, read_spans
from tests.e2e.servers.grpc_server import SERVICE, UNLIMITED
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

LARGE = 5_000_000
SERVER_ERRORS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}


@pytest.fixture
def port() -> Iterator[int]:
    """Start the service in a process of its own, and wait until it listens."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.servers.grpc_server"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


class Calling:
    """A client and what the agent made of its calls."""

    def __init__(self, start: Callable[..., Agent], port: int, tmp_path: Path, *arguments: str) -> None:
        self._file = tmp_path / "spans.jsonl"
        self._agent = start("run", "--port", str(port), "--spans-file", str(self._file), *arguments)
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=UNLIMITED)

    def method(self, kind: str, name: str) -> Any:  # grpcio has no types
        """Return a method of the service, or one that it lacks; `kind` as in `unary_stream`."""
        return getattr(self._channel, kind)(f"/{SERVICE}/{name}")

    def end(self) -> dict[int, list[ExportedSpan]]:
        """End client and agent; return the spans of each side, by start."""
        self._channel.close()
        self._agent.stop()
        spans = read_spans(self._file)
        return {kind: [span for span in spans if span.kind == kind] for kind in (CLIENT, SERVER)}


@pytest.fixture
def calling(agent: Callable[..., Agent], port: int, tmp_path: Path) -> Callable[..., Calling]:
    """Start the agent with more arguments, then a client."""
    return lambda *arguments: Calling(agent, port, tmp_path, *arguments)


def counts(span: ExportedSpan) -> tuple[int, int, int, int]:
    """Return how many messages there were, and of how many bytes, in each direction."""
    attributes = span.attributes
    assert not [name for name in attributes if name.endswith(".uncounted")]
    request, response = (
        (attributes[f"wirespan.rpc.{side}.message_count"], attributes[f"wirespan.rpc.{side}.message_size"])
        for side in ("request", "response")
    )
    return (*request, *response)


def test_calls_of_all_kinds(calling: Callable[..., Calling]) -> None:
    client = calling()
    metadata = (("x-tenant", "a"), ("authorization", "Bearer s3cret"), ("x-sum-bin", b"\xff\0"))
    assert client.method("unary_unary", "Echo")(b"\x0a\x03bob", metadata=metadata) == b"\x0a\x03bob"
    assert list(client.method("unary_stream", "Split")(b"abcde")) == [b"a", b"b", b"c", b"d", b"e"]
    assert client.method("stream_unary", "Join")(iter([b"one", b"", b"three"])) == b"onethree"
    assert list(client.method("stream_stream", "Talk")(iter([b"a", b"bc"]))) == [b"a", b"bc"]
    sides = client.end()
    for spans in sides.values():
        assert [span.name for span in spans] == [
            f"{SERVICE}/{name}" for name in ("Echo", "Split", "Join", "Talk")
        ]
        assert [counts(span) for span in spans] == [(1, 5, 1, 5), (1, 5, 5, 5), (3, 8, 1, 8), (2, 3, 2, 3)]
        for span in spans:
            attributes = span.attributes
            assert attributes["rpc.system.name"] == "grpc"
            assert attributes["rpc.method"] == span.name
            assert attributes["rpc.response.status_code"] == "OK"
            assert not {"error.type", "wirespan.incomplete", "wirespan.anomalies"} & attributes.keys()
            assert attributes["network.protocol.version"] == "2"
        attributes = spans[0].attributes
        assert attributes["wirespan.rpc.request.messages"] == ['{1: "bob"}']
        assert attributes["wirespan.rpc.response.messages"] == ['{1: "bob"}']
        assert attributes["rpc.request.metadata.x-tenant"] == ["a"]
        assert attributes["rpc.request.metadata.authorization"] == ["Bearer REDACTED"]
        assert attributes["rpc.request.metadata.x-sum-bin"] == ["/wA"]
        assert attributes["rpc.response.metadata.x-initial"] == ["1"]
        assert attributes["rpc.response.metadata.x-trailing-bin"] == ["AAEC"]
        assert "s3cret" not in str(attributes)


def test_errors_have_their_code_on_both_sides(calling: Callable[..., Calling]) -> None:
    client = calling()
    codes = [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
    for code in codes:
        with pytest.raises(grpc.RpcError) as raised:
            client.method("unary_unary", "Abort")(code.encode())
        assert raised.value.code().name == code
    with pytest.raises(grpc.RpcError):
        client.method("unary_unary", "Nothing")(b"")
    sides = client.end()
    for kind, spans in sides.items():
        assert [span.attributes["rpc.response.status_code"] for span in spans] == [*codes, "UNIMPLEMENTED"]
        for span, code in zip(spans, codes, strict=False):
            is_error = kind == CLIENT or code in SERVER_ERRORS
            assert span.attributes.get("error.type") == (code if is_error else None)
            assert span.attributes["wirespan.rpc.status_message"] == "as asked for: ☃"
    assert [span.attributes["rpc.method"] for span in sides[CLIENT]][-1] == f"{SERVICE}/Nothing"
    unknown = sides[SERVER][-1]
    assert (unknown.name, unknown.attributes["rpc.method"]) == ("grpc", "_OTHER")
    assert unknown.attributes["rpc.method_original"] == f"{SERVICE}/Nothing"


def test_a_call_that_is_given_up_has_no_status_but_one_that_was_sent(
    calling: Callable[..., Calling],
) -> None:
    client = calling()
    wait, list_arrived = (client.method("unary_unary", name) for name in ("Wait", "ListArrived"))
    seconds = 0.1
    while b"late" not in list_arrived(b""):
        # On a busy machine the time may be up before the call has left.
        seconds *= 2
        with pytest.raises(grpc.RpcError) as raised:
            wait(b"late", timeout=seconds, metadata=(("x-call", "late"),))
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    waiting = wait.future(b"cancelled", metadata=(("x-call", "cancelled"),))
    while b"cancelled" not in list_arrived(b""):
        pass
    assert waiting.cancel()
    client.method("unary_unary", "Echo")(b"", metadata=(("x-call", "echo"),))
    sides = client.end()
    for spans in sides.values():
        by_call: dict[str, list[ExportedSpan]] = {"late": [], "cancelled": [], "echo": []}
        for span in spans:
            if span.name != f"{SERVICE}/ListArrived":
                by_call[span.attributes["rpc.request.metadata.x-call"][0]].append(span)
        assert by_call["late"]
        for late in by_call["late"]:
            assert late.name == f"{SERVICE}/Wait"
            # Either end may be first to notice that the time is up: the server says so, the client resets.
            if "rpc.response.status_code" in late.attributes:
                assert late.attributes["error.type"] == "DEADLINE_EXCEEDED"
            else:
                assert late.attributes["wirespan.incomplete"] == "reset"
        (cancelled,) = by_call["cancelled"]
        assert cancelled.name == f"{SERVICE}/Wait"
        assert "rpc.response.status_code" not in cancelled.attributes
        assert cancelled.attributes["wirespan.incomplete"] == "reset"
        assert cancelled.attributes["wirespan.rpc.request.message_count"] == 1
        (echo,) = by_call["echo"]
        assert echo.attributes["rpc.response.status_code"] == "OK"


def test_a_stream_that_its_client_cancels_is_no_error_of_either_end(calling: Callable[..., Calling]) -> None:
    client = calling()
    for _ in range(2):
        watch = client.method("unary_stream", "Follow")(b"up")
        assert next(watch) == b"up"
        assert watch.cancel()
        client.method("unary_unary", "Echo")(b"")
    sides = client.end()
    for kind, spans in sides.items():
        assert [span.name for span in spans] == [f"{SERVICE}/Follow", f"{SERVICE}/Echo"] * 2
        for watched, echoed in zip(spans[::2], spans[1::2], strict=True):
            attributes = watched.attributes
            assert attributes["wirespan.incomplete"] == "reset"
            assert attributes["wirespan.reset.code"] == "CANCEL"
            assert attributes["wirespan.reset.direction"] == ("sent" if kind == CLIENT else "received")
            assert not {"error.type", "rpc.response.status_code"} & attributes.keys()
            assert attributes["wirespan.rpc.response.message_count"] == 1
            assert echoed.attributes["rpc.response.status_code"] == "OK"


def test_large_messages_are_counted_in_full(calling: Callable[..., Calling]) -> None:
    client = calling()
    message = b"\x0a\xbb\x96\xb1\x02" + b"z" * (LARGE - 5)
    assert client.method("unary_unary", "Echo")(message) == message
    assert client.method("unary_unary", "Echo")(b"next") == b"next"
    sides = client.end()
    for spans in sides.values():
        assert [span.attributes["rpc.response.status_code"] for span in spans] == ["OK", "OK"]
        assert [counts(span) for span in spans] == [(1, LARGE, 1, LARGE), (1, 4, 1, 4)]
        attributes = spans[0].attributes
        assert attributes["wirespan.request.body.truncated"] == "limit"
        assert attributes["http.request.body.size"] == LARGE + 5
        (rendered,) = attributes["wirespan.rpc.request.messages"]
        assert rendered.endswith(f"of {LARGE - 5} bytes>, …}}")


def test_compressed_messages_are_readable(calling: Callable[..., Calling]) -> None:
    client = calling()
    message = b"\x0a\x64" + b"g" * 100
    gzipped = grpc.Compression.Gzip
    assert client.method("unary_unary", "Echo")(message, compression=gzipped) == message
    for spans in client.end().values():
        (span,) = spans
        assert span.attributes["wirespan.rpc.request.messages"] == [f'{{1: "{"g" * 100}"}}']
        assert 0 < span.attributes["wirespan.rpc.request.message_size"] < 100
        assert span.attributes["http.request.header.grpc-encoding"] == ["gzip"]


def test_without_bodies_messages_are_only_counted(calling: Callable[..., Calling]) -> None:
    client = calling("--no-bodies")
    client.method("unary_unary", "Echo")(b"\x0a\x03bob")
    for spans in client.end().values():
        (span,) = spans
        assert counts(span) == (1, 5, 1, 5)
        assert "bob" not in str(span.attributes)


def test_calls_at_once_keep_apart(calling: Callable[..., Calling]) -> None:
    client = calling()
    number = 200
    method = client.method("unary_unary", "Echo")
    pending = [
        method.future(b"\x08" + bytes([index & 0x7F]), metadata=(("x-index", str(index)),))
        for index in range(number)
    ]
    for index, future in enumerate(pending):
        assert future.result() == b"\x08" + bytes([index & 0x7F])
    for spans in client.end().values():
        assert len(spans) == number
        seen = set()
        for span in spans:
            attributes = span.attributes
            (index,) = attributes["rpc.request.metadata.x-index"]
            seen.add(index)
            expected = [f"{{1: {int(index) & 0x7F}}}"]
            assert attributes["wirespan.rpc.request.messages"] == expected
            assert attributes["wirespan.rpc.response.messages"] == expected
            assert attributes["rpc.response.status_code"] == "OK"
        assert len(seen) == number
