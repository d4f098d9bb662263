"""How a run ends: what was captured is delivered, inside the time-out, with 0."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import ExportedSpan, Server, curl, read_spans
from tests.e2e.tls.waiting import wait_until
from tests.otlp_receiver import OtlpReceiver
from tests.running_agent import COMMAND, END_SECONDS, Agent

pytestmark = pytest.mark.e2e

StartAgent = Callable[..., Agent]
StartServer = Callable[..., Server]


def request_of(span: ExportedSpan) -> str:
    """Return what a span says of its request's target: the URL at the client, the path at the server."""
    return str(span.attributes.get("url.full") or span.attributes["url.path"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_right_after_an_exchange_loses_nothing(
    agent: StartAgent, server: StartServer, tmp_path: Path, number: signal.Signals
) -> None:
    api, file = server(), tmp_path / "spans"
    running = agent("run", "--port", str(api.port), "--spans-file", str(file))
    curl(f"{api.url}/last")
    running.stop(number)
    spans = read_spans(file)
    assert len(spans) == 2
    assert all("wirespan.incomplete" not in span.attributes for span in spans)


@pytest.fixture
def heeded_hangup() -> Iterator[None]:
    """SIGHUP as it mostly is: under nohup the tests, and what they start, begin with it ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heeded_hangup")
def test_a_hangup_ends_a_run_without_a_file_and_loses_nothing(agent: StartAgent, server: StartServer) -> None:
    api = server()
    with OtlpReceiver(protocol="http/protobuf") as receiver:
        outputs = ("--otlp-endpoint", receiver.endpoint, "--otlp-protocol", "http/protobuf")
        running = agent("run", "--port", str(api.port), *outputs)
        curl(f"{api.url}/last")
        running.stop(signal.SIGHUP)
        assert len(receiver.spans) == 2


@pytest.mark.usefixtures("heeded_hangup")
def test_a_spans_file_is_rotated_with_a_hangup_and_without_one(
    agent: StartAgent, server: StartServer, tmp_path: Path
) -> None:
    api, file = server(), tmp_path / "spans"
    running = agent("run", "--port", str(api.port), "--spans-file", str(file))
    rotated = []
    for number in range(3):
        curl(f"{api.url}/{number}")
        wait_until(lambda: file.exists() and len(read_spans(file)) == 2, "both spans are written")
        rotated.append(file.rename(tmp_path / f"spans.{number}"))
        if number:
            running.process.send_signal(signal.SIGHUP)
    curl(f"{api.url}/3")
    running.stop()
    for number, each in enumerate([*rotated, file]):
        assert sorted(request_of(span) for span in read_spans(each)) == [f"/{number}", f"{api.url}/{number}"]


def test_the_duration_ends_a_run(agent: StartAgent) -> None:
    started_at = time.monotonic()
    running = agent("run", "--port", "1", "--duration", "0.5")
    running.wait()
    assert time.monotonic() - started_at >= 0.5


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_receiver_that_is_away_does_not_hold_up_the_end(
    agent: StartAgent, server: StartServer, protocol: str
) -> None:
    api = server()
    outputs = ("--otlp-endpoint", "http://127.0.0.1:1", "--otlp-protocol", protocol)
    running = agent("run", "--port", str(api.port), "--shutdown-timeout", "1", *outputs)
    curl(f"{api.url}/lost")
    # Within END_SECONDS: a receiver that is away is tried again for longer than that.
    running.stop()
    assert "2 of 2 spans dropped" in "".join(running.log)


def test_a_second_signal_ends_at_once(agent: StartAgent, server: StartServer) -> None:
    api = server()
    outputs = ("--otlp-endpoint", "http://127.0.0.1:1", "--shutdown-timeout", "60")
    running = agent("run", "--port", str(api.port), *outputs)
    curl(f"{api.url}/lost")
    deadline = time.monotonic() + END_SECONDS
    while running.process.poll() is None and time.monotonic() < deadline:
        running.process.send_signal(signal.SIGINT)
        try:
            running.process.wait(0.2)
        except subprocess.TimeoutExpired:
            continue
    assert running.process.returncode == -signal.SIGINT


def test_a_reader_that_has_seen_enough_ends_the_run_quietly(server: StartServer) -> None:
    api = server()
    with subprocess.Popen(
        [COMMAND, "run", "--port", str(api.port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        assert running.stdout is not None
        assert "ready\n" in iter(running.stderr.readline, "")
        curl(f"{api.url}/first")
        assert "/first" in running.stdout.readline()
        running.stdout.close()
        try:
            assert running.wait(END_SECONDS) == 0
            assert running.stderr.read() == ""
        finally:
            running.kill()


def test_the_end_leaves_no_child_and_no_attached_program(agent: StartAgent) -> None:
    running = agent("run", "--port", "1")
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text()
    assert children == ""
    running.stop()
