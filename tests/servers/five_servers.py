"""The five servers on ports of the loopback interface: their configuration, their start and their end."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.nginx import find_nginx, free_port, running_nginx, wait_for_port

NAMES = ("nginx", "apache", "node", "gunicorn", "go")
DEFAULT_HOST = "default.invalid"
"""What nginx and Apache act on when a request names no host."""

_PROGRAMS = Path(__file__).parent / "programs"

_NGINX = """
    server_name {host};
    location / {{
      proxy_http_version 1.1; proxy_pass_request_headers off; proxy_pass http://127.0.0.1:{upstream}/read;
      proxy_set_header Connection ""; proxy_set_header Host upstream;
      proxy_set_header X-Read-Target $request_uri; proxy_set_header X-Read-Host $host;
    }}
"""
_APACHE = """
    ServerRoot {folder}
    ServerName {host}
    UseCanonicalName Off
    Listen 127.0.0.1:{port}
    PidFile {folder}/apache.pid
    DefaultRuntimeDir {folder}
    ErrorLog /dev/null
    LogLevel emerg
    LoadModule mpm_event_module {modules}/mod_mpm_event.so
    LoadModule authz_core_module {modules}/mod_authz_core.so
    LoadModule headers_module {modules}/mod_headers.so
    LoadModule proxy_module {modules}/mod_proxy.so
    LoadModule proxy_http_module {modules}/mod_proxy_http.so
    KeepAlive On
    MaxKeepAliveRequests 0
    KeepAliveTimeout 30
    AllowEncodedSlashes NoDecode
    RequestHeader set X-Read-Line "expr=%{{THE_REQUEST}}"
    RequestHeader set X-Read-Host "expr=%{{SERVER_NAME}}"
    RequestHeader unset Expect
    ProxyPassMatch "^" "http://127.0.0.1:{upstream}/read" nocanon
"""
_APACHE_MODULES = Path("/usr/lib/apache2/modules")


@contextmanager
def running_servers(folder: Path) -> Iterator[dict[str, int]]:
    """Run the five servers in a folder that they can reach, and yield their ports by name."""
    with ExitStack() as closing:

        def start(port: int, *command: str) -> int:
            process = _spawn(*command)
            closing.callback(process.wait)
            closing.callback(process.terminate)
            wait_for_port(port)
            return port

        program = [sys.executable, "-m", "tests.servers.programs.upstream"]
        upstream = free_port()
        start(upstream, *program, str(upstream))
        port = free_port()
        settings = folder / "apache.conf"
        settings.write_text(
            _APACHE.format(
                folder=folder, host=DEFAULT_HOST, port=port, modules=_APACHE_MODULES, upstream=upstream
            )
        )
        apache = start(port, _find("apache2"), "-X", "-f", str(settings))
        port = free_port()
        node = start(port, _find("node"), str(_PROGRAMS / "echo.js"), str(port))
        port = free_port()
        gunicorn = start(
            port,
            str(Path(sys.executable).with_name("gunicorn")),
            *("--bind", f"127.0.0.1:{port}", "--log-level", "critical"),
            *("--worker-class", "gthread", "--threads", "16", "--keep-alive", "30"),
            "tests.servers.programs.echo_application:application",
        )
        port = free_port()
        built = folder / "echo"
        subprocess.run([_find("go"), "build", "-o", str(built), str(_PROGRAMS / "echo.go")], check=True)
        go = start(port, str(built), str(port))
        nginx = closing.enter_context(
            running_nginx(folder, _NGINX.format(host=DEFAULT_HOST, upstream=upstream), start=_spawn)
        )
        yield {"nginx": nginx, "apache": apache, "node": node, "gunicorn": gunicorn, "go": go}


def _spawn(*command: str) -> subprocess.Popen[Any]:
    # What they say of odd requests is not of interest, and it is a lot.
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2]
    )


def find_versions() -> dict[str, str]:
    """Return what each server says that it is."""
    commands = {
        "nginx": [find_nginx(), "-v"],
        "apache": [_find("apache2"), "-v"],
        "node": [_find("node"), "--version"],
        "gunicorn": [str(Path(sys.executable).with_name("gunicorn")), "--version"],
        "go": [_find("go"), "version"],
    }
    versions = {}
    for name, command in commands.items():
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        first = (ended.stdout or ended.stderr).splitlines()[0]
        words = first.translate({ord(mark): " " for mark in "/()"}).split()
        versions[name] = next(word for word in words if any(map(str.isdigit, word)))
    return versions


def _find(name: str) -> str:
    """Return the path of an executable; Debian's servers stand outside a user's search path."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/go/bin")
    if found is None:
        raise FileNotFoundError(f"{name} is not installed; `make test-servers` installs it")
    return found
