"""What capturing within TLS costs: nginx with HTTPS on kept connections, with and without the agent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import subjects
from tests.bench.load import exported_spans, run_h2load
from tests.bench.rows import TURNS, Row
from tests.certificates import issue_certificates
from tests.nginx import free_port, running_nginx

BURSTS = 10
BURST_REQUESTS = 2000
PAUSE_SECONDS = 1.5
"""As for plaintext: enough for a burst."""
FULL_LOAD = ("-c", "10", "-n", "20000")
STEADY_RATE = "1000"
CAPTURED = ("--exe", "*nginx*", "--direction", "ingress")


@dataclass(frozen=True)
class HttpsServer:
    """nginx with one worker that answers as the one for plaintext does."""

    port: int
    worker: int

    def worker_seconds(self) -> float:
        """Return the processor time that the worker has used so far, to the nanosecond."""
        return int(Path(f"/proc/{self.worker}/schedstat").read_text().split()[0]) / 1e9


@contextmanager
def https_server(folder: Path) -> Iterator[HttpsServer]:
    """Run nginx on a port with TLS."""
    port, issued = free_port(), issue_certificates(folder)
    body = '{"items":"' + "x" * 1012 + '"}'
    with running_nginx(
        folder,
        f"listen 127.0.0.1:{port} ssl backlog=4096; "
        f"ssl_certificate {issued.certificate}; ssl_certificate_key {issued.key}; "
        f"default_type application/json; location / {{ return 200 '{body}'; }}",
    ):
        run_h2load(port, folder, "-n", "1", scheme="https")  # by then there is a worker
        master = (folder / "nginx.pid").read_text().strip()
        (worker,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        yield HttpsServer(port, int(worker))


@dataclass(frozen=True)
class _Turn:
    per_second: float
    worker_us: float
    mean_us: float


def _turn(server: HttpsServer, folder: Path, seconds: int) -> _Turn:
    before = server.worker_seconds()
    full = run_h2load(server.port, folder, *FULL_LOAD, scheme="https")
    worker_us = (server.worker_seconds() - before) / full.requests * 1e6
    steady = run_h2load(
        server.port, folder, "-c", "1", "--rps", STEADY_RATE, "-D", str(seconds), scheme="https"
    )
    return _Turn(full.per_second, worker_us, steady.mean_us)


def _measure_server(server: HttpsServer, folder: Path, seconds: int) -> list[Row]:
    bare, traced = [], []
    for _ in range(TURNS):
        bare.append(_turn(server, folder, seconds))
        with subjects.Agent(*CAPTURED, "--spans-file", "/dev/null"):
            traced.append(_turn(server, folder, seconds))
    worker_us, mean_us = min(turn.worker_us for turn in bare), min(turn.mean_us for turn in bare)
    per_second = max(turn.per_second for turn in bare)
    added_worker_us = min(turn.worker_us for turn in traced) - worker_us
    added_mean_us = min(turn.mean_us for turn in traced) - mean_us
    ratio = max(turn.per_second for turn in traced) / per_second
    return [
        Row("HTTPS: processor time of nginx per request, added", "µs", worker_us, added_worker_us, None),
        Row("HTTPS: mean latency at 1,000 requests/s, added", "µs", mean_us, added_mean_us, None),
        Row("HTTPS: requests of nginx at full load without the agent", "1/s", None, per_second, None),
        Row("HTTPS: the same with the agent, as a share of it", "ratio", None, ratio, None),
    ]


def _measure_agent(server: HttpsServer, folder: Path, endpoint: str) -> list[Row]:
    options = (*CAPTURED, "--otlp-endpoint", endpoint, "--otlp-protocol", "http/protobuf")
    with subjects.Agent(*options) as agent:
        served = run_h2load(
            server.port, folder, "-c", "10", "-n", str(BURST_REQUESTS), scheme="https"
        ).requests
        exported_spans(agent, served)
        bursts_us = []
        for _ in range(BURSTS):
            before = agent.main_thread_seconds()
            served += run_h2load(
                server.port, folder, "-c", "10", "-n", str(BURST_REQUESTS), scheme="https"
            ).requests
            time.sleep(PAUSE_SECONDS)  # the agent works through the burst, with the cores to itself
            bursts_us.append((agent.main_thread_seconds() - before) / BURST_REQUESTS * 1e6)
        lost = served - exported_spans(agent, served)
    return [
        Row("HTTPS: agent processor time per exchange, to OTLP bytes", "µs", None, min(bursts_us), None),
        Row("HTTPS: lost exchanges of these bursts", "exchanges", None, lost, 0),
    ]


def measure(folder: Path, endpoint: str, seconds: int) -> list[Row]:
    """Measure what the server pays, then what the agent does.

    Args:
        folder: Where nginx runs.
        endpoint: An OTLP receiver over HTTP.
        seconds: Duration of each steady load.
    """
    with https_server(folder) as server:
        return [*_measure_server(server, folder, seconds), *_measure_agent(server, folder, endpoint)]
