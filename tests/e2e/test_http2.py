"""HTTP/2 over cleartext between clients and servers that people run: one right span per request and side."""

import base64
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import CLIENT, SERVER, ExportedSpan, Server, curl, read_spans
from tests.e2e.servers.http2_client import Http2Client
from tests.nginx import free_port, running_nginx, wait_for_port
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

FILES = 211
LIMIT = 131_072
LARGE_BYTES = 400_003
CLIENTS, STREAMS, REQUESTS = 10, 100, 5_003
LOAD = ("-c", str(CLIENTS), "-m", str(STREAMS), "-n", str(REQUESTS))


def content(number: int) -> str:
    return f"this is {number}: " + "x" * number


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a file for each number, all of them different, that any user may read."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    served = tmp_path / "served"
    served.mkdir()
    for number in range(FILES):
        (served / f"{number}.txt").write_text(content(number))
    (served / "large.txt").write_text("0123456789\n" * (LARGE_BYTES // 11) + "." * (LARGE_BYTES % 11))
    return served


@contextmanager
def running_nghttpd(served: Path, *options: str) -> Iterator[int]:
    port = free_port()
    with subprocess.Popen(
        ["nghttpd", "--no-tls", "-d", str(served), *options, str(port)], stdout=subprocess.DEVNULL
    ) as process:
        try:
            wait_for_port(port)
            yield port
        finally:
            process.terminate()


@contextmanager
def running_nginx_with_http2(served: Path, *directives: str) -> Iterator[int]:
    port = free_port()
    with running_nginx(
        served.parent,
        f"listen 127.0.0.1:{port} http2 backlog=4096; root {served}; {' '.join(directives)} "
        "default_type text/plain; charset utf-8; "
        "location /status/204 { return 204; } location /status/503 { return 503; }",
    ):
        yield port


SERVERS: dict[str, Callable[[Path], Any]] = {
    "nghttpd": running_nghttpd,
    "nginx": running_nginx_with_http2,
    # as most distributions configure it: bodies never are in the memory of the process
    "nginx-sendfile": lambda served: running_nginx_with_http2(served, "sendfile on;"),
}


@pytest.fixture
def capture(agent: Callable[..., Agent], tmp_path: Path) -> Callable[..., Agent]:
    """Start an agent that watches a port and writes `spans.jsonl`."""

    def start(port: int, *options: str) -> Agent:
        return agent("run", "--port", str(port), "--spans-file", str(tmp_path / "spans.jsonl"), *options)

    return start


def spans_by_side(tmp_path: Path) -> dict[int, list[ExportedSpan]]:
    """Return the spans by kind. Whole and of HTTP/2 they must be, all of them."""
    spans = read_spans(tmp_path / "spans.jsonl")
    assert Counter(span.attributes.get("wirespan.incomplete") for span in spans) == {None: len(spans)}
    assert Counter(span.attributes["network.protocol.version"] for span in spans) == {"2": len(spans)}
    return {kind: [span for span in spans if span.kind == kind] for kind in (SERVER, CLIENT)}


def path_of(span: ExportedSpan) -> str:
    if span.kind == SERVER:
        return str(span.attributes["url.path"])
    return str(span.attributes["url.full"]).split("/", 3)[3].join(("/", ""))


def test_curl_with_prior_knowledge(
    capture: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path
) -> None:
    serving = server(program="http2_server")
    running = capture(serving.port)
    ask = ("--http2-prior-knowledge",)
    assert curl(*ask, f"{serving.url}/known?a=b") == "GET /known?a=b 0\n"
    assert curl(*ask, "--data", "x" * 70_001, f"{serving.url}/up") == "POST /up 70001\n"
    assert curl(*ask, f"{serving.url}/trailers/1") == "GET /trailers/1 0\n"
    curl(*ask, "--head", f"{serving.url}/head")
    curl(*ask, f"{serving.url}/status/204")
    curl(*ask, f"{serving.url}/status/304")
    running.stop()
    for kind, spans in spans_by_side(tmp_path).items():
        assert [
            (
                span.attributes["http.request.method"],
                path_of(span),
                span.attributes["http.response.status_code"],
            )
            for span in spans
        ] == [
            ("GET", "/known" if kind == SERVER else "/known?a=b", 200),
            ("POST", "/up", 200),
            ("GET", "/trailers/1", 200),
            ("HEAD", "/head", 200),
            ("GET", "/status/204", 204),
            ("GET", "/status/304", 304),
        ]
        known, up, trailers, *bodiless = spans
        assert known.attributes["http.response.body.content"] == "GET /known?a=b 0\n"
        assert known.attributes["http.request.header.user-agent"][0].startswith("curl/")
        assert up.attributes["http.request.body.content"] == "x" * 70_001
        assert trailers.attributes["http.response.body.content"] == "GET /trailers/1 0\n"
        assert not any("http.response.body.content" in span.attributes for span in bodiless)


def test_curl_by_upgrade(
    capture: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path
) -> None:
    serving = server(program="http2_server")
    running = capture(serving.port)
    printed = curl("--http2", f"{serving.url}/first", f"{serving.url}/second")
    assert printed == "GET /first 0\nGET /second 0\n"
    running.stop()
    spans = read_spans(tmp_path / "spans.jsonl")
    for kind in (SERVER, CLIENT):
        first, second = (span for span in spans if span.kind == kind)
        assert (path_of(first), first.attributes["http.response.body.content"]) == (
            "/first",
            "GET /first 0\n",
        )
        assert (path_of(second), second.attributes["http.response.body.content"]) == (
            "/second",
            "GET /second 0\n",
        )
        assert "wirespan.incomplete" not in first.attributes
        assert "wirespan.incomplete" not in second.attributes
        assert second.attributes["network.protocol.version"] == "2"


def test_nghttp_asks_for_many_at_once(capture: Callable[..., Agent], files: Path, tmp_path: Path) -> None:
    with running_nghttpd(files, "--trailer", "x-checksum: 1234") as port:
        running = capture(port)
        addresses = [f"http://127.0.0.1:{port}/{number}.txt" for number in range(50)]
        subprocess.run(["nghttp", "--null-out", *addresses], check=True)
        running.stop()
    for spans in spans_by_side(tmp_path).values():
        assert {path_of(span): span.attributes["http.response.body.content"] for span in spans} == {
            f"/{number}.txt": content(number) for number in range(50)
        }
        assert len(spans) == 50


@pytest.mark.parametrize("name", SERVERS)
def test_under_load_each_request_has_its_own_answer(
    capture: Callable[..., Agent], files: Path, tmp_path: Path, name: str
) -> None:
    with SERVERS[name](files) as port:
        health = f"127.0.0.1:{free_port()}"
        running = capture(port, "--health-listen", health)
        asked = tmp_path / "asked"
        asked.write_text("".join(f"http://127.0.0.1:{port}/{number}.txt\n" for number in range(FILES)))
        printed = subprocess.run(
            ["h2load", *LOAD, "-i", str(asked)], capture_output=True, text=True, check=True
        ).stdout
        assert f"{REQUESTS} done, {REQUESTS} succeeded, 0 failed" in printed
        metrics = curl(f"http://{health}/metrics")
        running.stop()
    sides = spans_by_side(tmp_path)
    assert {kind: len(spans) for kind, spans in sides.items()} == {SERVER: REQUESTS, CLIENT: REQUESTS}
    for kind, spans in sides.items():
        for span in spans:
            number = int(path_of(span).strip("/").removesuffix(".txt"))
            assert span.attributes["http.response.status_code"] == 200
            assert span.attributes["http.response.body.size"] == len(content(number))
            if kind == SERVER and name == "nginx-sendfile":
                assert span.attributes["wirespan.response.body.truncated"] == "sendfile"
            else:
                assert span.attributes["http.response.body.content"] == content(number)
                assert "wirespan.response.body.truncated" not in span.attributes
    assert len({path_of(span) for span in sides[SERVER]}) == FILES
    judged = dict(
        re.findall(r'^wirespan_connections_judged_total{verdict="(\w+)"} (\S+)$', metrics, re.MULTILINE)
    )
    assert judged["http2"] == f"{2 * CLIENTS}.0"
    lost = re.findall(r"^(wirespan_capture_losses_total\{.*) (\S+)$", metrics, re.MULTILINE)
    assert {cause: count for cause, count in lost if float(count)} == {}


@pytest.mark.parametrize("window", ["16", "30"])
@pytest.mark.parametrize("name", ["nghttpd", "nginx"])
def test_many_large_bodies_at_once_are_cut_and_nothing_else_is(
    capture: Callable[..., Agent], files: Path, tmp_path: Path, name: str, window: str
) -> None:
    """With a small window the client acknowledges all the time, with the large one never."""
    requests = 101
    with SERVERS[name](files) as port:
        running = capture(port)
        address = f"http://127.0.0.1:{port}/large.txt"
        options = ("-c", "1", "-m", "100", "-n", str(requests), "-w", window, "-W", window)
        subprocess.run(["h2load", *options, address], check=True, stdout=subprocess.DEVNULL)
        running.stop()
    large = (files / "large.txt").read_text()
    for spans in spans_by_side(tmp_path).values():
        assert len(spans) == requests
        for span in spans:
            kept = span.attributes.get("http.response.body.content", "")
            assert len(kept) <= LIMIT
            assert large.startswith(kept)
            assert span.attributes["http.response.body.size"] == LARGE_BYTES
            assert span.attributes["wirespan.response.body.truncated"] == "limit"


def test_a_connection_older_than_the_agent_is_captured_from_its_next_request(
    capture: Callable[..., Agent], files: Path, tmp_path: Path
) -> None:
    with running_nghttpd(files) as port, Http2Client(port) as client:
        assert client.get(["/0.txt", "/1.txt"]) == [content(0), content(1)]
        running = capture(port)
        numbers = [*range(2, 50), *range(50)]
        for number in numbers[:48]:
            assert client.get([f"/{number}.txt"]) == [content(number)]
        assert client.get([f"/{number}.txt" for number in numbers[48:]]) == [content(n) for n in numbers[48:]]
        running.stop()
    spans = read_spans(tmp_path / "spans.jsonl")
    for kind in (SERVER, CLIENT):
        seen = [span for span in spans if span.kind == kind]
        assert len(seen) == len(numbers)
        answers: Counter[str] = Counter()
        for span in seen:
            # What was said before is unknown for ever, and may be referred to. What is told is right.
            assert span.attributes.get("wirespan.incomplete") in (None, "unknown_headers", "joined_late")
            # binary as long as the content type is unknown
            answer = base64.b64decode(span.attributes["http.response.body.content"]).decode()
            answers[answer] += 1
            path = span.attributes.get("url.path" if kind == SERVER else "url.full")
            if path is not None:
                assert answer == content(int(path.rpartition("/")[2].removesuffix(".txt")))
        assert answers == Counter(content(number) for number in numbers)
