"""What the benchmark runs: the agent under measurement, nginx as the captured server, a backend, C programs.

Owns starting and ending them. It measures nothing but the agent's own processor time, memory and counters.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.nginx import free_port, running_nginx

HERE = Path(__file__).parent
WIRESPAN = Path(sys.executable).with_name("wirespan")
CLOCK_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def build_program(name: str, folder: Path) -> Path:
    """Compile one of the C programs beside this file; return the executable."""
    program = folder / name
    source = HERE / f"{name}.c"
    subprocess.run(["gcc", "-O2", "-D_GNU_SOURCE", "-o", program, source], check=True)
    return program


@contextmanager
def nginx(folder: Path) -> Iterator[int]:
    """Run nginx with a JSON answer of 1 KiB at every path; yield its port."""
    body = '{"items":"' + "x" * 1012 + '"}'
    with running_nginx(
        folder, f"default_type application/json; location / {{ return 200 '{body}'; }}"
    ) as port:
        yield port


class _AcceptSpans(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Stay silent: requests are counted by the agent."""


@contextmanager
def backend() -> Iterator[str]:
    """Accept OTLP over HTTP and discard it; yield the endpoint."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _AcceptSpans)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Agent:
    """A running `wirespan run`, from start to `ready` and to its end."""

    def __init__(self, *options: str, core: int | None = None) -> None:
        """Start the agent and wait until its probes are attached.

        Args:
            options: Further options of `wirespan run`.
            core: The only processor core that the agent may use; None for all.

        Raises:
            RuntimeError: The agent ended before it was ready.
        """
        self._health = f"127.0.0.1:{free_port()}"
        pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
        started = time.monotonic()
        self._process = subprocess.Popen(
            [*pinned, WIRESPAN, "run", "--health-listen", self._health, *options],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if re.search(r"\bready\b", line):
                break
        else:
            raise RuntimeError(f"the agent ended before it was ready:\n{''.join(said)}")
        self.start_seconds = time.monotonic() - started
        self._drain = threading.Thread(target=self._process.stderr.read, daemon=True)
        self._drain.start()

    def cpu_seconds(self) -> float:
        """Return the processor time that the agent used so far, all threads, user and system."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS_PER_SECOND

    def main_thread_seconds(self) -> float:
        """Return the processor time of the main thread so far, to the nanosecond.

        It does everything from the ring buffer to encoded spans; others send them.
        """
        pid = self._process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9

    def resident_bytes(self) -> int:
        """Return the resident memory of the agent, its mapping of the ring buffer included."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def metrics(self) -> dict[str, float]:
        """Return every sample of /metrics, by name with its labels."""
        with urllib.request.urlopen(f"http://{self._health}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def stop(self) -> None:
        """End the agent and wait until it has flushed."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=60)
        self._drain.join()

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
