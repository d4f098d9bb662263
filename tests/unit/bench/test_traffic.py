"""Varied traffic is varied, the same for the same seed, and read by the agent as it was meant."""

from __future__ import annotations

import functools
import random
from collections import Counter
from pathlib import Path

import pytest

from ebpf.events import Protocol, SocketEvent
from ebpf.input_stream import InputStream
from ebpf.layout import CHUNK_BYTES, RecordDecoder
from ebpf.recording import RecordedCapture
from otel_bridge.otlp.attribute_memory import MAX_ATTRIBUTES_REMEMBERED
from parsers.http_exchange import HttpExchange
from tests.bench.records import SERVER, encode_record, tell, write_recording
from tests.bench.traffic import Exchange, Traffic
from tests.bench.varied import EXCHANGES_PER_SLICE, SLICES
from tests.bench.wire import Call, write_http1, write_http2
from tests.builders import run_events

EXCHANGES_OF_A_ROUND = SLICES * EXCHANGES_PER_SLICE
SEEDS = range(5)


@functools.cache
def make(kind: str, seed: int, count: int) -> tuple[Exchange, ...]:
    traffic = Traffic(seed)
    return tuple(traffic.lookup() if kind == "gets" else traffic.change() for _ in range(count))


def speak(kind: str, seed: int, count: int) -> tuple[tuple[Exchange, ...], list[Call]]:
    """Return exchanges and the calls of one connection that carries them."""
    exchanges, chance = make(kind, seed, count), random.Random(seed)
    if kind == "http2":
        return exchanges, write_http2(exchanges, chance)
    turns = [write_http1(exchange, chance) for exchange in exchanges]
    return exchanges, [call for request, response in turns for call in request + response]


def describe_read(exchange: HttpExchange) -> tuple[object, ...]:
    request, response = exchange.request, exchange.response
    assert request is not None
    assert response is not None
    return (
        (request.method or b"").decode(),
        (request.target or b"").decode(),
        request.body.content,
        response.status,
        response.body.content,
        exchange.anomalies,
        exchange.incomplete,
    )


def describe_made(exchange: Exchange) -> tuple[object, ...]:
    return (
        exchange.method,
        exchange.target,
        exchange.request.body,
        exchange.status,
        exchange.response.body,
        (),
        None,
    )


def field_values(exchange: Exchange, name: str) -> list[str]:
    return [
        value
        for message in (exchange.request, exchange.response)
        for key, value in message.fields
        if key == name
    ]


@pytest.mark.parametrize("kind", ["http1", "gets", "http2"])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_agent_reads_every_exchange_as_it_was_made(kind: str, seed: int) -> None:
    exchanges, calls = speak(kind, seed, 80)
    events = tell(
        calls,
        connection_id=1,
        start_ktime_ns=1,
        protocol=Protocol.HTTP2 if kind == "http2" else Protocol.HTTP1,
    )
    read = Counter(describe_read(exchange) for exchange in run_events(events))
    assert read == Counter(map(describe_made, exchanges))


@pytest.mark.parametrize("kind", ["http1", "gets", "http2"])
def test_the_seed_decides_the_traffic(kind: str) -> None:
    spoken = speak(kind, 1, 60)
    make.cache_clear()
    assert speak(kind, 1, 60) == spoken
    assert speak(kind, 1, 60) != speak(kind, 2, 60)


def test_methods_statuses_sizes_and_framings_are_mixed() -> None:
    exchanges = make("http1", 7, EXCHANGES_OF_A_ROUND)
    assert {exchange.method for exchange in exchanges} == {"POST", "PUT", "PATCH", "DELETE"}
    assert {exchange.status // 100 for exchange in exchanges} == {2, 4, 5}
    for message in ("request", "response"):
        sizes = [len(getattr(exchange, message).body) for exchange in exchanges]
        assert 800 < sum(sizes) / len(sizes) < 1300
        assert max(sizes) > 4 * sum(sizes) / len(sizes)
        chunked = sum(bool(getattr(exchange, message).pieces) for exchange in exchanges)
        assert 0 < chunked < len(exchanges)


def test_lookups_have_several_kinds_of_paths_and_no_body() -> None:
    exchanges = make("gets", 7, EXCHANGES_OF_A_ROUND)
    assert {exchange.target.split("/")[2].partition("?")[0] for exchange in exchanges} == {
        "customers",
        "products",
        "accounts",
        "search",
    }
    assert {exchange.status for exchange in exchanges} == {200, 304, 404, 500}
    assert not any(exchange.request.body for exchange in exchanges)


@pytest.mark.parametrize("kind", ["http1", "gets"])
def test_no_round_finds_its_own_traffic_in_the_memory_of_attributes(kind: str) -> None:
    exchanges = make(kind, 7, EXCHANGES_OF_A_ROUND)
    differing = [exchange.target for exchange in exchanges]
    for name in ("x-request-id", "traceparent", "etag"):
        differing += [value for exchange in exchanges for value in set(field_values(exchange, name))]
    assert len(set(differing)) > 2 * MAX_ATTRIBUTES_REMEMBERED


@pytest.mark.parametrize("kind", ["http1", "http2"])
def test_a_record_decodes_to_the_event_that_it_was_made_of(kind: str) -> None:
    _, calls = speak(kind, 3, 40)
    calls.append(Call(from_client=True, data=bytes(3 * CHUNK_BYTES + 1)))
    events = tell(
        calls,
        connection_id=4,
        start_ktime_ns=1,
        protocol=Protocol.HTTP2 if kind == "http2" else Protocol.HTTP1,
    )
    decoder = RecordDecoder()
    assert [decoder.decode(encode_record(event)) for event in events] == events
    assert max(len(event.payload) for event in events) == CHUNK_BYTES


def test_a_recording_holds_the_same_payload_and_names_the_process(tmp_path: Path) -> None:
    _, calls = speak("http1", 3, 40)
    events = tell(calls, connection_id=1, start_ktime_ns=1, protocol=Protocol.HTTP1)
    path = tmp_path / "traffic.wirespan"
    write_recording(path, [encode_record(event) for event in events])
    source = RecordedCapture(InputStream.open(path))
    read = []
    while not source.exhausted:
        read += source.poll(0)
    source.close()
    assert source.damage is None
    assert SERVER in read
    moved = [(event.position, event.payload) for event in read if isinstance(event, SocketEvent)]
    assert moved == [(event.position, event.payload) for event in events]
