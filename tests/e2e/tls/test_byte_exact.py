"""OpenSSL called in every way that programs call it: bodies are the very bytes, once and in order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import CLIENT, SERVER, ExportedSpan, read_spans
from tests.e2e.tls.peers import Posted, Talk, serving_peer, talk
from tests.e2e.tls.servers import Materials
from tests.e2e.tls.spans import LOOPBACK, assert_addresses_unknown, of_kind, path_of
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

LIMIT = 131_072
"""Bytes that are kept of a body, unless another limit is asked for."""
RECORDS = "1,100,16383,16384,16385,40000,131072,131073,3000000/5,70000"
"""Around the 16 KiB of a record, around the limit, far beyond it; then another connection."""
SMALL = "1,100,16384/5,20000"
SIZES = {
    "plain": RECORDS,
    "tls-1.2": RECORDS,
    "ex": RECORDS,
    "tiny-reads": SMALL,
    "tiny-writes": SMALL,
    "peek": RECORDS,
    "non-blocking": RECORDS,
    "non-blocking-ex": RECORDS,
    "partial-writes": RECORDS,
    "memory": RECORDS,
    "memory-tiny-reads": SMALL,
    "memory-1.2": RECORDS,
    "relay": RECORDS,
    "threads": RECORDS,
    "clear": RECORDS,
    "resume": RECORDS,
    "resume-1.2": RECORDS,
    "renegotiate": RECORDS,
    "key-update": RECORDS,
}
MEGABYTES, HIGHEST_LIMIT = "1048576,1/3000000", 1_048_576
RELAYED, ABANDONED = "100,20000/300", "100,3000000"


class Observed:
    """All talks that were captured by one agent, and all its spans."""

    def __init__(self, talks: dict[str, Talk], spans: list[ExportedSpan]) -> None:
        self.talks = talks
        self.spans = spans

    def of(self, pattern: str, kind: int) -> list[ExportedSpan]:
        """Return the spans of one side of a talk, by start."""
        return [span for span in of_kind(self.spans, kind) if path_of(span).startswith(f"/{pattern}/")]


@pytest.fixture(scope="module")
def observed(materials: Materials, tmp_path_factory: pytest.TempPathFactory) -> Observed:
    spans_file: Path = tmp_path_factory.mktemp("byte-exact") / "spans.jsonl"
    # One that is there all the time keeps the library probed, however short the others are.
    with serving_peer(materials, "plain", 1):
        running = Agent("run", "--exe", "*openssl_peer*", "--spans-file", str(spans_file))
        try:
            asked = {"early-close": ABANDONED, **SIZES, "relay-in-pieces": RELAYED}
            talks = {pattern: talk(materials, pattern, sizes) for pattern, sizes in asked.items()}
            running.stop()
        finally:
            running.close()
    return Observed(talks, read_spans(spans_file))


def assert_echoed(span: ExportedSpan, posted: Posted, limit: int = LIMIT) -> None:
    """Expect the posted body in both directions, as far as the limit goes."""
    attributes, size = span.attributes, len(posted.body)
    assert attributes["http.request.method"] == "POST"
    assert attributes["http.response.status_code"] == 200
    assert attributes["wirespan.tls"] == "openssl"
    assert not {"wirespan.incomplete", "wirespan.anomalies"} & attributes.keys(), attributes
    for side in ("request", "response"):
        assert attributes[f"http.{side}.body.size"] == size
        assert attributes[f"http.{side}.body.content"] == posted.body[:limit]
        truncated = "limit" if size > limit else None
        assert attributes.get(f"wirespan.{side}.body.truncated") == truncated


def assert_connection(span: ExportedSpan, port: int, client_port: int) -> None:
    attributes = span.attributes
    local, peer = (port, client_port) if span.kind == SERVER else (client_port, port)
    assert attributes["network.local.address"] == attributes["network.peer.address"] == LOOPBACK
    assert (attributes["network.local.port"], attributes["network.peer.port"]) == (local, peer)


@pytest.mark.parametrize("kind", [CLIENT, SERVER], ids=["client", "server"])
@pytest.mark.parametrize("pattern", SIZES)
def test_bodies_are_the_very_bytes(observed: Observed, pattern: str, kind: int) -> None:
    told = observed.talks[pattern]
    assert told.complaints == []
    spans = observed.of(pattern, kind)
    assert [path_of(span) for span in spans] == [posted.path for posted in told.posted]
    for span, posted in zip(spans, told.posted, strict=True):
        assert_echoed(span, posted)
        assert_connection(span, told.port, posted.client_port)


def test_bodies_are_the_very_bytes_up_to_the_highest_limit(
    agent: Callable[..., Agent], materials: Materials, tmp_path: Path
) -> None:
    spans_file = tmp_path / "spans.jsonl"
    with serving_peer(materials, "plain", 1):
        running = agent(
            *("run", "--exe", "*openssl_peer*", "--max-body", str(HIGHEST_LIMIT)),
            *("--spans-file", str(spans_file)),
        )
        told = [talk(materials, pattern, MEGABYTES) for pattern in ("ex", "partial-writes", "memory")]
        running.stop()
    posted = [posted for each in told for posted in each.posted]
    assert [each.complaints for each in told] == [[], [], []]
    spans = read_spans(spans_file)
    for kind in (CLIENT, SERVER):
        seen = of_kind(spans, kind)
        assert [path_of(span) for span in seen] == [each.path for each in posted]
        for span, each in zip(seen, posted, strict=True):
            assert_echoed(span, each, HIGHEST_LIMIT)


def test_a_connection_whose_ciphertext_nobody_can_recognize_is_told_without_addresses(
    observed: Observed,
) -> None:
    told = observed.talks["relay-in-pieces"]
    assert told.complaints == []
    for kind in (CLIENT, SERVER):
        spans = observed.of("relay-in-pieces", kind)
        assert [path_of(span) for span in spans] == [posted.path for posted in told.posted]
        for span, posted in zip(spans, told.posted, strict=True):
            assert_echoed(span, posted)
            if kind == CLIENT:
                assert_addresses_unknown(span)
            else:
                assert_connection(span, told.port, posted.client_port)


def test_a_connection_that_ends_in_the_middle_of_an_answer_says_so(observed: Observed) -> None:
    told = observed.talks["early-close"]
    assert told.complaints == []
    for kind in (CLIENT, SERVER):
        whole, abandoned = observed.of("early-close", kind)
        assert_echoed(whole, told.posted[0])
        attributes, body = abandoned.attributes, told.posted[1].body
        assert path_of(abandoned) == told.posted[1].path
        assert attributes["http.request.body.content"] == body[:LIMIT]
        assert attributes["http.response.status_code"] == 200
        assert attributes["error.type"] == "connection_closed"
        kept = attributes["http.response.body.content"]
        assert 0 < len(kept) <= LIMIT
        assert body.startswith(kept)
        assert_connection(abandoned, told.port, told.posted[1].client_port)


def test_there_are_no_other_spans(observed: Observed) -> None:
    expected = sum(len(told.posted) for told in observed.talks.values())
    assert {kind: len(of_kind(observed.spans, kind)) for kind in (CLIENT, SERVER)} == {
        CLIENT: expected,
        SERVER: expected,
    }
    assert len(observed.spans) == 2 * expected
