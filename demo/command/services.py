"""The processes of the demo: the sample API, nginx in front of it when it is installed, and the traffic.

Owns starting and ending them. Each is a child, ended by its own number; nginx lives in a directory of its
own that goes with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

START_SECONDS = 10.0
"""Longest wait for a child to listen: nginx and a Python server need a tenth of a second, when idle."""
END_SECONDS = 5.0
"""Longest wait for a child to end by itself before it is killed."""

_NGINX = """\
{user}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 128; }}
http {{
    access_log off;
    client_body_temp_path {directory}/client_body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream shop {{ server 127.0.0.1:{upstream}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://shop;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
        }}
    }}
}}
"""


class DemoUnavailableError(RuntimeError):
    """A service of the demo does not start. The message says which and what it said."""


class Services:
    """The demo's children, alive while the context is."""

    def __init__(self, requests: int, seconds: float) -> None:
        self._requests = requests
        self._seconds = seconds
        self._closing = contextlib.ExitStack()
        self._children: list[tuple[subprocess.Popen[bytes], str]] = []
        self.names: dict[int, str] = {}
        """What each child is called, by its tgid."""

    def __enter__(self) -> Services:
        with contextlib.ExitStack() as starting:
            self._closing = starting
            port = self._start_api()
            if nginx := shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
                port = self._start_nginx(nginx, port)
            self._traffic = self._start(
                "client",
                [
                    sys.executable,
                    "-m",
                    "demo.command.traffic",
                    str(port),
                    str(self._requests),
                    str(self._seconds),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            self._closing = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @property
    def vantages(self) -> int:
        """How many spans one request gives: each connection has two ends."""
        return 4 if "nginx" in self.names.values() else 2

    def begin(self) -> None:
        """Let the traffic start."""
        assert self._traffic.stdin is not None
        self._traffic.stdin.write(b"go\n")
        self._traffic.stdin.flush()

    def end(self, name: str) -> None:
        """End the child of this name, if there is one, before the others."""
        for child, child_name in self._children:
            if child_name == name:
                _end(child)

    def tally(self) -> Counter[tuple[str, str, int]]:
        """Return how often the traffic met with (method, route, status). Raises DemoUnavailableError."""
        output, _ = self._traffic.communicate(timeout=END_SECONDS)
        if self._traffic.returncode:
            raise DemoUnavailableError("the demo's traffic failed; its message stands above")
        return Counter(
            {(method, route, status): count for method, route, status, count in json.loads(output)}
        )

    def _start(self, name: str, command: list[str], **streams: int) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "OTEL_SERVICE_NAME": f"demo-{name}"}
        child = subprocess.Popen(command, env=environment, **streams)  # type: ignore[call-overload]  # noqa: S603 (our own programs)
        self._closing.callback(_end, child)
        self._children.append((child, name))
        self.names[child.pid] = name
        return child  # type: ignore[no-any-return]

    def _start_api(self) -> int:
        child = self._start("api", [sys.executable, "-m", "demo.command.api"], stdout=subprocess.PIPE)
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            raise DemoUnavailableError("the demo's API does not start; its message stands above")
        return int(line)

    def _start_nginx(self, nginx: str, upstream: int) -> int:
        directory = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="wirespan-demo-")))
        port = _free_port()
        configuration = directory / "nginx.conf"
        # Workers would otherwise give up root and find their own directory closed.
        user = "user root;" if os.geteuid() == 0 else ""
        configuration.write_text(_NGINX.format(user=user, directory=directory, upstream=upstream, port=port))
        error_log = directory / "error.log"
        child = self._start(
            "nginx", [nginx, "-p", str(directory), "-c", str(configuration), "-e", str(error_log)]
        )
        deadline = time.monotonic() + START_SECONDS
        while not _listens(port):
            if child.poll() is not None or time.monotonic() > deadline:
                raise DemoUnavailableError(f"nginx does not start: {error_log.read_text().strip()}")
            time.sleep(0.02)
        return port


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
