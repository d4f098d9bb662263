"""A real nginx on a loopback port, for tests and measurements: its configuration, its start and its end."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_TIMEOUT_SECONDS = 60


def free_port() -> int:
    """Return a TCP port of the loopback interface without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int) -> None:
    """Wait until the port accepts connections."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise TimeoutError(f"no program listens on port {port}")


def find_nginx() -> str:
    """Return the path of the executable; Debian's stands outside a user's search path."""
    return shutil.which("nginx") or "/usr/sbin/nginx"


def _spawn(*command: str) -> subprocess.Popen[Any]:
    return subprocess.Popen(command)


@contextmanager
def running_nginx(
    folder: Path,
    locations: str,
    *,
    upstreams: str = "",
    start: Callable[..., subprocess.Popen[Any]] = _spawn,
) -> Iterator[int]:
    """Run nginx with one worker in `folder`; yield its port.

    Args:
        folder: Writable, and reachable by the user that nginx changes to.
        locations: Directives of the server block.
        upstreams: Directives of the http block.
        start: What starts it, given the words of a command line.
    """
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        f"""
        worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log stderr error;
        events {{ worker_connections 4096; }}
        http {{
          access_log off; keepalive_requests 10000000; keepalive_timeout 600s;
          client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
          fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
          {upstreams}
          server {{ listen 127.0.0.1:{port} backlog=4096; {locations} }}
        }}
        """
    )
    process = start(find_nginx(), "-p", str(folder), "-c", str(config))
    try:
        wait_for_port(port)
        yield port
    finally:
        process.terminate()
        process.wait()
