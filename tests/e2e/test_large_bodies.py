"""Bodies beyond the limit: cut on a character boundary, true size kept, not carried through the ring."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import SERVER, Agent, curl, read_spans
from tests.nginx import free_port, running_nginx

pytestmark = pytest.mark.e2e

MEBIBYTE = 1_048_576
LIMIT = 131_072
DOWNLOAD_BYTES = 300_000_000


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
