"""nginx under a steady load: as many spans as requests served, each of them whole, and no loss counted."""

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import SERVER, curl, read_spans
from tests.nginx import free_port, running_nginx
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

REQUESTS_PER_SECOND = 2000
SECONDS = 5
ANSWER = '{"items":[' + ",".join(["1234567890"] * 50) + "]}"


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[int]:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    with running_nginx(
        tmp_path, f"default_type application/json; location / {{ return 200 '{ANSWER}'; }}"
    ) as port:
        yield port


def test_every_request_that_nginx_serves_becomes_a_whole_span(
    agent: Callable[..., Agent], nginx: int, tmp_path: Path
) -> None:
    spans_file = tmp_path / "spans.jsonl"
    health = f"127.0.0.1:{free_port()}"
    running = agent(
        *("run", "--exe", "*nginx*", "--direction", "ingress"),
        *("--spans-file", str(spans_file), "--health-listen", health),
    )
    load = subprocess.run(
        [
            "h2load",
            "--h1",
            "--rps",
            str(REQUESTS_PER_SECOND),
            "-D",
            str(SECONDS),
            f"http://127.0.0.1:{nginx}/items",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.search(r"requests: (\d+) total, .* (\d+) succeeded, (\d+) failed", load)
    assert found is not None, load
    assert found[3] == "0", load
    metrics = curl(f"http://{health}/metrics")
    running.stop()

    spans = read_spans(spans_file)
    assert len(spans) == int(found[2])
    assert Counter(span.kind for span in spans) == {SERVER: len(spans)}
    assert Counter(span.attributes.get("wirespan.incomplete") for span in spans) == {None: len(spans)}
    for span in spans:
        assert span.attributes["http.response.status_code"] == 200
        assert span.attributes["url.path"] == "/items"
        assert span.attributes["http.request.header.user-agent"] == ["h2load nghttp2/1.52.0"]
        assert span.attributes["http.response.header.content-type"] == ["application/json"]
        assert span.attributes["http.response.body.content"] == ANSWER
        assert span.resource["process.executable.name"] == "nginx"
    losses = re.findall(r"^(wirespan_capture_losses_total\{.*) (\S+)$", metrics, re.MULTILINE)
    assert losses
    assert {name: value for name, value in losses if float(value)} == {}
