"""Probes are there while the agent runs, where they are wanted, and nowhere afterwards, however it ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import CLIENT, SERVER, curl, read_spans
from tests.e2e.tls.conftest import Capture
from tests.e2e.tls.plan import Request, build_requests
from tests.e2e.tls.probes import (
    Held,
    changed_bytes,
    count_of_uprobes,
    files_probed_by,
    held_by,
    named_uprobe_events,
    still_listed,
)
from tests.e2e.tls.servers import Materials, Running, running_server
from tests.e2e.tls.spans import BOTH_OPENSSL, assert_exact, path_of
from tests.e2e.tls.waiting import wait_until
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e


def ask(materials: Materials, server: Running, asked: Request) -> None:
    """Have curl send one request over HTTP/1.1, and expect its answer."""
    arguments = ["--http1.1", "--cacert", str(materials.certificates.authority)]
    if asked.body:
        arguments += ["--data", asked.body, "--header", "Content-Type: text/plain"]
    assert curl(*arguments, server.url + asked.path) == asked.answer


@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
def test_no_probe_is_left_behind(
    capture: Callable[..., Capture], materials: Materials, tmp_path: Path, *, killed: bool
) -> None:
    events_before = named_uprobe_events()
    get, post = build_requests(0, 2)
    with (
        running_server("nginx", materials, tmp_path) as nginx,
        running_server("node", materials, tmp_path) as node,
        running_server("go", materials, tmp_path) as go,
    ):
        code = {nginx.pid: "libssl", node.pid: "bin/node", go.pid: "go_peer"}
        capturing = capture(nginx.port, "--port", str(node.port), "--port", str(go.port))
        agent = capturing.agent.process
        for server in (nginx, node, go):
            ask(materials, server, get)
        assert {pid for pid, file in code.items() if changed_bytes(pid, file)} == code.keys()
        assert count_of_uprobes(agent.pid) > 0
        probed = files_probed_by(agent.pid)
        assert {file for file in code.values() if any(file in path for path in probed)} == set(code.values())
        held = held_by(agent.pid)
        assert held.programs
        assert still_listed(held) == held
        if killed:
            agent.kill()
            agent.wait()
        else:
            capturing.end()
        nothing = Held(frozenset(), frozenset())
        wait_until(lambda: still_listed(held) == nothing, "the kernel lists programs or links of the agent")
        wait_until(
            lambda: not any(changed_bytes(pid, file) for pid, file in code.items()),
            "breakpoints are left in the code of servers",
        )
        assert named_uprobe_events() <= events_before
        for server in (nginx, node, go):
            ask(materials, server, post)


def test_without_tls_there_are_no_probes_and_no_spans_of_https(
    agent: Callable[..., Agent], materials: Materials, tmp_path: Path
) -> None:
    spans_file = tmp_path / "spans.jsonl"
    get, post = build_requests(0, 2)
    with running_server("nginx", materials, tmp_path) as nginx:
        running = agent("run", "--no-tls", "--exe", "*nginx*", "--spans-file", str(spans_file))
        ask(materials, nginx, get)
        ask(materials, nginx, post)
        assert files_probed_by(running.process.pid) == []
        assert count_of_uprobes(running.process.pid) == 0
        assert held_by(running.process.pid).links, "sockets are followed all the same"
        running.stop()
    # What nginx says to the server behind it is plaintext on the wire.
    (span,) = read_spans(spans_file)
    assert span.kind == CLIENT
    assert span.attributes["url.full"].startswith("http://")
    assert span.attributes["url.full"].endswith(post.path)
    assert "wirespan.tls" not in span.attributes


def test_what_is_excluded_is_not_probed(
    capture: Callable[..., Capture], materials: Materials, tmp_path: Path
) -> None:
    (get,) = build_requests(0, 1)
    with (
        running_server("nginx", materials, tmp_path) as nginx,
        running_server("go", materials, tmp_path) as go,
    ):
        capturing = capture(nginx.port, "--port", str(go.port), "--tls-exclude", "*go_peer*")
        ask(materials, go, get)
        ask(materials, nginx, get)
        probed = files_probed_by(capturing.agent.process.pid)
        assert any("libssl" in path for path in probed)
        assert not any("go_peer" in path for path in probed)
        spans = capturing.end()
    to_go = [span for span in spans if span.attributes.get("network.peer.port") == go.port]
    assert [(span.kind, path_of(span)) for span in to_go] == [(CLIENT, get.path)]
    assert to_go[0].attributes["wirespan.tls"] == "openssl"
    others = [span for span in spans if span is not to_go[0]]
    assert_exact(others, [get], nginx.port, libraries=BOTH_OPENSSL)
    assert {span.kind for span in others} == {CLIENT, SERVER}
