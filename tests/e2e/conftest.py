"""The installed command, started as a user would, and real servers for it to watch."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.nginx import wait_for_port
from tests.running_agent import COMMAND, END_SECONDS

SERVERS = Path(__file__).parent / "servers"

Attributes: TypeAlias = dict[str, Any]


@dataclass
class ExportedSpan:
    """A span as a spans file has it, its values as Python's."""

    kind: int
    name: str
    start_unix_ns: int
    end_unix_ns: int
    attributes: Attributes
    resource: Attributes
    events: list[Attributes]
    """Their attributes, in order."""
    dropped_events: int


SERVER, CLIENT = 2, 3


@dataclass
class Server:
    """A server in a process of its own."""

    pid: int
    address: str
    port: int

    @property
    def url(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}"


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[int]:
    """Run a server until the block ends; yield its port once it listens."""
    with subprocess.Popen(command) as process:
        try:
            wait_for_port(port)
            yield port
        finally:
            process.kill()


@pytest.fixture(scope="session")
def go_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the server in Go that takes small uploads."""
    program = tmp_path_factory.mktemp("go") / "early"
    command = ["go", "build", "-buildvcs=false", "-o", str(program), "."]
    subprocess.run(command, cwd=SERVERS / "go_early", check=True)
    return program


@pytest.fixture
def server() -> Iterator[Callable[..., Server]]:
    """Start a server on `127.0.0.1`, `::1` or a path, and wait until it listens."""
    with contextlib.ExitStack() as closing:

        def start(address: str = "127.0.0.1", program: str = "threaded_server") -> Server:
            process = closing.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", f"tests.e2e.servers.{program}", address],
                    stdout=subprocess.PIPE,
                )
            )
            closing.callback(process.kill)
            assert process.stdout is not None
            return Server(process.pid, address, int(process.stdout.readline()))

        yield start


def wirespan(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=END_SECONDS, **options
    )


def curl(*arguments: str) -> str:
    """Run curl, expect success, and return what it printed."""
    ended = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "10", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout


def read_spans(file: Path) -> list[ExportedSpan]:
    """Return the spans of a spans file, by start."""
    spans = []
    for line in file.read_text().splitlines():
        for group in json.loads(line)["resourceSpans"]:
            resource = _attributes(group["resource"]["attributes"])
            for scope in group["scopeSpans"]:
                spans += [_exported(span, resource) for span in scope["spans"]]
    return sorted(spans, key=lambda span: span.start_unix_ns)


def _exported(span: dict[str, Any], resource: Attributes) -> ExportedSpan:
    return ExportedSpan(
        span["kind"],
        span["name"],
        int(span["startTimeUnixNano"]),
        int(span["endTimeUnixNano"]),
        _attributes(span["attributes"]),
        resource,
        [_attributes(event.get("attributes", [])) for event in span.get("events", [])],
        span.get("droppedEventsCount", 0),
    )


def _attributes(listed: list[dict[str, Any]]) -> Attributes:
    return {attribute["key"]: _value(attribute["value"]) for attribute in listed}


def _value(value: dict[str, Any]) -> Any:
    ((kind, content),) = value.items()
    if kind == "intValue":
        return int(content)
    if kind == "arrayValue":
        return [_value(each) for each in content["values"]]
    return content
