"""Answers and failures of an engine, over a real Unix socket."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from agent.workloads.docker import client as client_module
from agent.workloads.docker.client import (
    EVENTS,
    EngineClient,
    EngineRefusalError,
    EngineUnreachableError,
    NoSuchContainerError,
)
from tests.unit.agent.workloads.docker.scripted_engine import END, ScriptedEngine


@pytest.fixture
def client(engine: ScriptedEngine) -> EngineClient:
    return EngineClient(engine.path)


def test_the_version_of_the_api_is_the_engines(engine: ScriptedEngine, client: EngineClient) -> None:
    client.running()
    client.negotiate()
    client.running()
    engine.api_version = None
    client.negotiate()
    client.running()
    assert engine.asked == [
        "/containers/json",
        "/_ping",
        "/v1.41/containers/json",
        "/_ping",
        "/containers/json",
    ]


def test_containers(engine: ScriptedEngine, client: EngineClient) -> None:
    engine.run("a", "web")
    assert client.running() == ["a"]
    assert client.inspect("a") == engine.containers["a"]
    with pytest.raises(NoSuchContainerError, match="No such container"):
        client.inspect("b")


def test_events_from_a_moment_on(engine: ScriptedEngine, client: EngineClient) -> None:
    engine.tell("start", "a")
    engine.tell("die", "a")
    engine.events.put(END)
    with client.events(1_700_000_000_000_000_009) as events:
        assert [event["Action"] for event in events] == ["start", "die"]
    query = parse_qs(urlsplit(engine.asked[0]).query)
    assert query["since"] == ["1700000000.000000009"]
    assert json.loads(query["filters"][0]) == EVENTS


def test_an_event_in_parts(engine: ScriptedEngine, client: EngineClient) -> None:
    for part in (b'{"Action"', b': "start"}\n{"Ac', b'tion": "die"}\n', END):
        engine.events.put(part)
    with client.events(0) as events:
        assert [event["Action"] for event in events] == ["start", "die"]


def test_a_stream_that_breaks_off_in_an_event(engine: ScriptedEngine, client: EngineClient) -> None:
    for part in (b'{"Action": "start"}\n{"Ac', END):
        engine.events.put(part)
    with client.events(0) as events:
        assert [event["Action"] for event in events] == ["start"]


def test_an_event_that_is_too_long_is_empty(
    engine: ScriptedEngine, client: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_EVENT_BYTES", 64)
    for part in (b'{"Action": "%s"}\n' % (b"x" * 200), b'{"Action": "die"}\n', END):
        engine.events.put(part)
    with client.events(0) as events:
        assert list(events) == [{}, {"Action": "die"}]


def test_an_answer_that_is_too_long(
    engine: ScriptedEngine, client: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 100)
    engine.failures["json"] = (200, b" " * 101)
    with pytest.raises(EngineRefusalError, match="longer than 100 bytes"):
        client.running()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"message": "out of order"}', "out of order"),
        (b"<html>", "status 500"),
        (b"[]", "status 500"),
        (b"{}", "status 500"),
    ],
)
def test_a_refusal_says_why(engine: ScriptedEngine, client: EngineClient, body: bytes, reason: str) -> None:
    engine.failures["json"] = (500, body)
    with pytest.raises(EngineRefusalError, match=reason):
        client.running()


def test_answers_that_no_engine_gives(engine: ScriptedEngine, client: EngineClient) -> None:
    engine.failures["json"] = (200, b"hello")
    with pytest.raises(EngineUnreachableError, match="not the JSON of a Docker Engine"):
        client.running()
    engine.events.put(b"hello\n")
    with client.events(0) as events, pytest.raises(EngineUnreachableError, match="not the JSON"):
        next(events)


def test_what_listens_is_no_http_server(tmp_path: Path) -> None:
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1_000)
                connection.sendall(b"220 mail.example\r\n")

        server = threading.Thread(target=answer)
        server.start()
        with pytest.raises(EngineUnreachableError, match="not the HTTP of a Docker Engine"):
            EngineClient(path).running()
        server.join()


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(EngineUnreachableError, match="No such file or directory"):
        EngineClient(tmp_path / "none.sock").running()
    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(EngineUnreachableError, match="Connection refused"):
        EngineClient(path).running()


def test_a_path_that_is_too_long_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(EngineUnreachableError, match="too long"):
        EngineClient(tmp_path / ("x" * 200)).running()


def test_no_answer_in_time(
    engine: ScriptedEngine, client: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "REQUEST_SECONDS", 0.01)
    engine.stalled.add("json")
    with pytest.raises(EngineUnreachableError, match="timed out"):
        client.running()


def test_cancelling_ends_what_is_being_waited_for(engine: ScriptedEngine, client: EngineClient) -> None:
    engine.stalled.add("json")
    failures: list[EngineUnreachableError] = []

    def ask() -> None:
        try:
            client.running()
        except EngineUnreachableError as failure:
            failures.append(failure)

    with client.events(0) as events:
        asking = threading.Thread(target=ask)
        asking.start()
        while len(engine.asked) < 2:
            pass
        client.cancel()
        asking.join()
        assert list(events) == []
    assert len(failures) == 1
    client.cancel()
    with pytest.raises(EngineUnreachableError, match="cancelled"):
        client.running()
