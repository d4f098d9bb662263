"""docker-compose.yml in the tests' own Engine."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import tarfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from tests.containers.engine import Container, Engine
from tests.stack.stand_ins import COMPOSE_FILE

COMMAND = "/usr/bin/docker-compose"
PROJECT = "wirespan-stack"
SECONDS = 300.0
SPANS_FILE = "/spans.jsonl"
_LABEL = f"label=com.docker.compose.project={PROJECT}"


class Stack:
    """The stack, once it is up."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._gateway_port, self._jaeger_port = _free_port(), _free_port()
        self._environment = {
            **os.environ,
            "DOCKER_HOST": f"unix://{engine.socket}",
            "DOCKER_CONFIG": str(engine.folder),
            "DOCKER_SOCKET": str(engine.socket),
            "GATEWAY_PORT": str(self._gateway_port),
            "JAEGER_PORT": str(self._jaeger_port),
        }

    def compose(self, *arguments: str) -> str:
        """Run docker-compose and return what it prints."""
        ended = subprocess.run(
            [COMMAND, "--file", COMPOSE_FILE, "--project-name", PROJECT, *arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    def up(self) -> None:
        """Start it, and wait until docker-compose has."""
        self.compose("up", "--no-start")
        network = self.engine.docker("network", "ls", "--quiet", "--filter", _LABEL)
        self.engine.permit_bridge(f"br-{network}")
        self.compose("up", "--detach")

    def container(self, service: str) -> Container:
        """Return the one of a service."""
        return Container(self.engine, self.compose("ps", "--quiet", service).strip())

    def resources(self) -> dict[str, str]:
        """Return what the Engine has of the stack, by kind: ids, or nothing."""
        return {
            "containers": self.engine.docker("ps", "--all", "--quiet", "--filter", _LABEL),
            "networks": self.engine.docker("network", "ls", "--quiet", "--filter", _LABEL),
            "volumes": self.engine.docker("volume", "ls", "--quiet"),
        }

    def ask_gateway(self, path: str) -> Any:
        """Return the JSON that the shop answers with."""
        return _get(f"http://127.0.0.1:{self._gateway_port}{path}")

    def jaeger_spans(self, service: str) -> list[dict[str, Any]]:
        """Return what Jaeger's API shows of a service; nothing while it doesn't know it."""
        query = urllib.parse.urlencode({"service": service, "limit": 10_000, "lookback": "1h"})
        traces = _get(f"http://127.0.0.1:{self._jaeger_port}/api/traces?{query}")["data"]
        return [
            span
            for trace in traces
            for span in trace["spans"]
            if trace["processes"][span["processID"]]["serviceName"] == service
        ]

    def collector_spans(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the spans that the Collector has written to its file, with their services."""
        collector = self.container("collector").container_id
        copied = subprocess.run(
            self.engine.command("cp", f"{collector}:{SPANS_FILE}", "-"), capture_output=True, check=True
        )
        with tarfile.open(fileobj=io.BytesIO(copied.stdout)) as tar:
            file = tar.extractfile(tar.getmembers()[0])
            assert file is not None
            lines = file.read().decode().splitlines()
        for line in lines:
            for group in json.loads(line)["resourceSpans"]:
                resource = {each["key"]: each["value"] for each in group["resource"]["attributes"]}
                for scope in group["scopeSpans"]:
                    for span in scope["spans"]:
                        yield resource["service.name"]["stringValue"], span


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.load(response)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
