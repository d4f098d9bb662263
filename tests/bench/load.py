"""Load on nginx by h2load, and what became of it in the agent."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench import subjects

POLL_SECONDS = 0.7
MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6}


@dataclass(frozen=True)
class Served:
    """What h2load counted and timed."""

    requests: int
    """That were answered with 2xx."""
    per_second: float
    mean_us: float
    """From a request to its answer."""


def run_h2load(port: int, folder: Path, *options: str, scheme: str = "http") -> Served:
    """Send POST requests with a JSON body of 1 KiB to nginx over HTTP/1.1.

    Raises:
        RuntimeError: h2load counted failures, so that its figure can't be compared.
    """
    body = folder / "request.json"
    body.write_text('{"order":"' + "y" * 1012 + '"}')
    url = f"{scheme}://127.0.0.1:{port}/json"
    header = "content-type: application/json"
    command = ["h2load", "--h1", "--data", str(body), "--header", header, *options, url]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", said)
    if found is None or found[2] != "0" or found[3] != "0":
        raise RuntimeError(f"h2load did not go through:\n{said}")
    rate = re.search(r"finished in \S+, (\S+) req/s", said)
    mean = re.search(r"time for request: +\S+ +\S+ +([\d.]+)(us|ms|s) ", said)
    assert rate is not None
    assert mean is not None
    return Served(int(found[1]), float(rate[1]), float(mean[1]) * MICROSECONDS[mean[2]])


def exported_spans(agent: subjects.Agent, expected: int) -> float:
    """Wait until the agent has exported as many spans as expected, or no more come; return the number."""
    deadline = time.monotonic() + 15
    exported = 0.0
    while time.monotonic() < deadline:
        metrics = agent.metrics()
        exported = metrics.get('wirespan_spans_total{fate="exported",sink="otlp"}', 0.0)
        if exported >= expected:
            break
        time.sleep(POLL_SECONDS)  # answering costs the agent time, which is what is being measured
    return exported
