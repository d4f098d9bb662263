"""Bodies beyond the limit: cut on a character boundary, true size kept, not carried through the ring."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path

import pytest

from parsers.limits import ParserLimits
from tests.e2e.conftest import CLIENT, SERVER, Server, curl, read_spans
from tests.e2e.servers.chunked_server import CHUNK_BYTES, PAUSE_SECONDS, build_array
from tests.nginx import free_port, running_nginx
from tests.otlp_receiver import OtlpReceiver
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

MEBIBYTE = 1_048_576
LIMIT = 131_072
DOWNLOAD_BYTES = 300_000_000
QUIET_SECONDS = ParserLimits().tail_quiet_ns / 1e9


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A folder, and the port of an nginx that serves it by read and write: the bytes pass user memory."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    served = tmp_path / "served"
    served.mkdir()
    with running_nginx(
        tmp_path, f"root {served}; sendfile off; charset utf-8; default_type text/plain;"
    ) as port:
        yield served, port


def test_a_long_body_is_cut_on_a_character_boundary(
    agent: Callable[..., Agent], files: tuple[Path, int], tmp_path: Path
) -> None:
    served, port = files
    text = "x" + "€" * (MEBIBYTE // 3)  # three bytes each, so that the limit falls inside a character
    (served / "long.txt").write_text(text)
    size = len(text.encode())
    spans_file = tmp_path / "spans.jsonl"
    running = agent("run", "--exe", "*nginx*", "--spans-file", str(spans_file))
    assert len(curl(f"http://127.0.0.1:{port}/long.txt")) == len(text)
    running.stop()
    (span,) = read_spans(spans_file)
    attributes = span.attributes
    kept = attributes["http.response.body.content"]
    assert text.startswith(kept)
    assert LIMIT - 3 < len(kept.encode()) <= LIMIT
    assert attributes["http.response.body.size"] == size
    assert attributes["wirespan.response.body.truncated"] == "limit"
    assert "wirespan.incomplete" not in attributes


def test_a_large_download_hardly_touches_the_ring(
    agent: Callable[..., Agent], files: tuple[Path, int], tmp_path: Path
) -> None:
    served, port = files
    with (served / "large.bin").open("wb") as large:
        large.truncate(DOWNLOAD_BYTES)
    spans_file = tmp_path / "spans.jsonl"
    health = f"127.0.0.1:{free_port()}"
    running = agent("run", "--port", str(port), "--spans-file", str(spans_file), "--health-listen", health)
    curl("--output", "/dev/null", f"http://127.0.0.1:{port}/large.bin")
    metrics = curl(f"http://{health}/metrics")
    running.stop()
    moved = re.search(r"^wirespan_ring_bytes_total (\S+)$", metrics, re.MULTILINE)
    assert moved is not None
    assert 0 < float(moved[1]) < 1_000_000
    client, server = sorted(read_spans(spans_file), key=lambda span: span.kind == SERVER)
    for span in (client, server):
        assert span.attributes["http.response.body.size"] == DOWNLOAD_BYTES
        assert span.attributes["wirespan.response.body.truncated"] == "limit"
        assert "wirespan.incomplete" not in span.attributes


def test_long_chunked_answers_of_one_connection_are_whole_spans(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path
) -> None:
    api = server("127.0.0.1", "chunked_server")
    spans_file = tmp_path / "spans.jsonl"
    counts = [60_000, 3, 60_001, 60_002]
    with OtlpReceiver() as receiver:
        running = agent(
            *("run", "--port", str(api.port), "--spans-file", str(spans_file)),
            *("--otlp-endpoint", receiver.endpoint, "--otlp-protocol", "grpc"),
        )
        with closing(HTTPConnection("127.0.0.1", api.port, timeout=30)) as connection:
            for count in counts:
                connection.request("GET", f"/{count}")
                assert connection.getresponse().read() == build_array(count)
        # The end of the connection ends the last one, and the server notices that some time later.
        receiver.wait_for_spans(2 * len(counts))
        running.stop()
    spans = read_spans(spans_file)
    for kind, path in ((SERVER, "url.path"), (CLIENT, "url.full")):
        seen = [span for span in spans if span.kind == kind]
        assert [int(span.attributes[path].rpartition("/")[2]) for span in seen] == counts
        for span, count in zip(seen, counts, strict=True):
            attributes = span.attributes
            body = build_array(count)
            assert "wirespan.incomplete" not in attributes
            assert span.end_unix_ns - span.start_unix_ns >= PAUSE_SECONDS * 1e9
            assert attributes["http.response.body.content"] == body[:LIMIT].decode()
            if count == counts[1]:
                assert attributes["http.response.body.size"] == len(body)
                continue
            assert len(body) > 1_000_000
            assert attributes["wirespan.response.body.truncated"] == "limit"
            assert "http.response.body.size" not in attributes
        for span, following in pairwise(seen):
            assert span.end_unix_ns <= following.start_unix_ns


def test_a_long_chunked_upload_is_a_whole_span(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path
) -> None:
    api = server("127.0.0.1", "chunked_server")
    spans_file = tmp_path / "spans.jsonl"
    running = agent("run", "--port", str(api.port), "--spans-file", str(spans_file))
    with closing(HTTPConnection("127.0.0.1", api.port, timeout=30)) as connection:
        for _ in range(3):
            chunks = (b"x" * CHUNK_BYTES for _ in range(MEBIBYTE // CHUNK_BYTES))
            connection.request("POST", "/", chunks, {"Content-Type": "text/plain"}, encode_chunked=True)
            assert connection.getresponse().read() == b"%d\n" % MEBIBYTE
    running.stop()
    spans = read_spans(spans_file)
    assert len(spans) == 6
    for span in spans:
        attributes = span.attributes
        assert attributes["http.request.body.content"] == "x" * LIMIT
        assert attributes["wirespan.request.body.truncated"] == "limit"
        assert "http.request.body.size" not in attributes
        assert attributes["http.response.body.content"] == f"{MEBIBYTE}\n"
        assert "wirespan.incomplete" not in attributes


def test_the_last_long_answer_of_an_open_connection_is_over_after_a_quiet_time(
    agent: Callable[..., Agent], server: Callable[..., Server]
) -> None:
    api = server("127.0.0.1", "chunked_server")
    with OtlpReceiver() as receiver:
        running = agent(
            *("run", "--port", str(api.port)),
            *("--otlp-endpoint", receiver.endpoint, "--otlp-protocol", "grpc"),
        )
        with closing(HTTPConnection("127.0.0.1", api.port, timeout=30)) as connection:
            connection.request("GET", "/60000")
            connection.getresponse().read()
            spans = receiver.wait_for_spans(2, QUIET_SECONDS + 30)
        running.stop()
    for span in spans:
        said = {attribute.key: attribute.value for attribute in span.attributes}
        assert "end_not_seen" in [name.string_value for name in said["wirespan.anomalies"].array_value.values]
        assert said["http.response.size"].int_value > len(build_array(60_000))
        assert said["wirespan.response.body.truncated"].string_value == "limit"
        assert "wirespan.incomplete" not in said
        assert PAUSE_SECONDS * 1e9 <= span.end_time_unix_nano - span.start_time_unix_nano < 5e9
