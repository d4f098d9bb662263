"""Processes over TLS that begin before and after the agent, short and long, with libraries of their own."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from tests.e2e.conftest import CLIENT, SERVER, ExportedSpan, curl, read_spans
from tests.e2e.tls.conftest import Capture
from tests.e2e.tls.peers import serving_peer
from tests.e2e.tls.plan import HEADERS, Request, build_requests
from tests.e2e.tls.probes import wait_for_probes
from tests.e2e.tls.servers import Materials, running_server
from tests.e2e.tls.spans import BOTH_OPENSSL, assert_addresses, assert_exact, assert_whole, of_kind, path_of
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

SHORT_PROCESSES = 500
AT_ONCE = 8
LATE_ROUNDS = 4
"""Times all requests of a connection: enough that a Go server reads one of them in an order that is clear."""
CONNECTIONS = 9
"""More than any of these tests makes to one server."""


def post(materials: Materials, port: int, path: str) -> None:
    """Post the path itself with curl, and expect it back."""
    arguments = ("--cacert", str(materials.certificates.authority), "--header", "Content-Type: text/plain")
    assert curl(*arguments, "--data", path, f"https://127.0.0.1:{port}{path}") == path


def assert_served(spans: list[ExportedSpan], paths: list[str]) -> None:
    """Expect exactly these paths, each posted as a body and echoed, seen at the server."""
    assert [(span.kind, path_of(span)) for span in spans] == [(SERVER, path) for path in paths]
    for span, path in zip(spans, paths, strict=True):
        assert span.attributes["wirespan.tls"] == "openssl"
        assert span.attributes["http.request.body.content"] == path
        assert span.attributes["http.response.body.content"] == path
        assert "wirespan.incomplete" not in span.attributes


def libraries_of(program: Path) -> dict[str, Path]:
    """Return the shared libraries of a program, by name, and its interpreter."""
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^\s*(?:(\S+) => )?(/\S+) \(0x", listed, re.MULTILINE)
    return {name or path: Path(path) for name, path in found}


@pytest.mark.parametrize(
    ("server", "file"),
    [("uvicorn", "libssl.so.3"), ("nginx", "libssl.so.3"), ("node", "bin/node"), ("go", "go_peer")],
)
def test_a_server_that_starts_after_the_agent(
    agent: Callable[..., Agent], materials: Materials, tmp_path: Path, server: str, file: str
) -> None:
    spans_file = tmp_path / "spans.jsonl"
    executables = [f"--exe=*{name}*" for name in ("python3", "nginx", "node", "go_peer")]
    running = agent("run", "--direction", "ingress", *executables, "--spans-file", str(spans_file))
    asked = build_requests(0)
    with running_server(server, materials, tmp_path) as started:
        wait_for_probes(running.process.pid, file)
        trust = ("--http1.1", "--cacert", str(materials.certificates.authority))
        for each in asked:
            posted = ("--data", each.body, "--header", "Content-Type: text/plain") if each.body else ()
            assert curl(*trust, *posted, started.url + each.path) == each.answer
        running.stop()
    # Behind nginx there is a plaintext server, which is captured as well.
    spans = [span for span in read_spans(spans_file) if "wirespan.tls" in span.attributes]
    libraries = {SERVER: "go" if server == "go" else "openssl"}
    assert_exact(spans, asked, started.port, libraries=libraries)


def test_each_of_many_short_processes_is_seen(
    capture: Callable[..., Capture], materials: Materials, tmp_path: Path
) -> None:
    asked = [Request("GET", f"/short/{number}", "") for number in range(SHORT_PROCESSES)]
    with running_server("nginx", materials, tmp_path) as nginx:
        capturing = capture(nginx.port)
        trust = ("--http1.1", "--cacert", str(materials.certificates.authority))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(lambda each: curl(*trust, nginx.url + each.path), asked))
        spans = capturing.end()
    assert answers == [each.answer for each in asked]
    assert_exact(spans, asked, nginx.port, libraries=BOTH_OPENSSL)
    processes = {span.resource["process.pid"] for span in of_kind(spans, CLIENT)}
    assert len(processes) == SHORT_PROCESSES


def test_the_first_short_process_of_a_program_is_seen(
    agent: Callable[..., Agent], materials: Materials, tmp_path: Path
) -> None:
    """No captured process has the library before it."""
    spans_file = tmp_path / "spans.jsonl"
    with running_server("nginx", materials, tmp_path) as nginx:
        running = agent("run", "--exe", "*/curl", "--spans-file", str(spans_file))
        trust = ("--http1.1", "--cacert", str(materials.certificates.authority))
        asked = [Request("GET", f"/short/{number}", "") for number in range(20)]
        for each in asked:
            assert curl(*trust, nginx.url + each.path) == each.answer
        running.stop()
    assert_exact(read_spans(spans_file), asked, nginx.port, libraries={CLIENT: "openssl"})


def ask(connection: HTTPSConnection, asked: Request) -> None:
    connection.request(asked.method, asked.path, asked.body or None, HEADERS)
    assert connection.getresponse().read().decode() == asked.answer


@pytest.mark.parametrize("server", ["go", "node", "uvicorn"])
def test_a_connection_older_than_the_agent(
    capture: Callable[..., Capture], materials: Materials, tmp_path: Path, server: str
) -> None:
    """The server was within a read when the agent came, or its socket is known only after a write."""
    trusted = ssl.create_default_context(cafile=str(materials.certificates.authority))
    before, *after = [each for number in range(LATE_ROUNDS) for each in build_requests(number)]
    with (
        running_server(server, materials, tmp_path) as started,
        closing(HTTPSConnection("127.0.0.1", started.port, context=trusted, timeout=30)) as connection,
    ):
        ask(connection, before)
        capturing = capture(started.port)
        for each in after:
            ask(connection, each)
        spans = capturing.end()
    client = of_kind(spans, CLIENT)
    assert [path_of(span) for span in client] == [each.path for each in after]
    server_spans = of_kind(spans, SERVER)
    # A Go server may read a byte of the next request while it still writes. As long as the carrying socket is
    # not known, that byte is lost. Each request has that chance anew, so no number bounds them.
    late = [span for span in server_spans if "wirespan.incomplete" in span.attributes]
    understood = ["wirespan.incomplete" not in span.attributes for span in server_spans]
    assert understood == sorted(understood), "a connection stays understood from its first whole request on"
    assert {span.attributes["wirespan.incomplete"] for span in late} <= {"joined_late"}
    server_spans = server_spans[len(late) :]
    assert server_spans, "one of many requests makes a late connection understood"
    missed, certain = after[: -len(server_spans)], after[-len(server_spans) :]
    answers = {each.answer for each in missed}
    assert {span.attributes["http.response.body.content"] for span in late} <= answers
    assert [path_of(span) for span in server_spans] == [each.path for each in certain]
    for span, each in zip(client, after, strict=True):
        assert_whole(span, each, "openssl")
    for span, each in zip(server_spans, certain, strict=True):
        assert_whole(span, each, "go" if server == "go" else "openssl")
    assert_addresses([*client, *server_spans], started.port)


def copy_libssl(materials: Materials, folder: Path) -> Path:
    """Copy OpenSSL's libraries into a folder for LD_LIBRARY_PATH; return the copy of libssl."""
    folder.mkdir()
    for name, library in libraries_of(materials.openssl_peer).items():
        if name.startswith(("libssl", "libcrypto")):
            shutil.copy(library, folder / name)
    (copied,) = folder.glob("libssl*")
    return copied


def replace(library: Path) -> None:
    """Put another file of the same content in the place of a library, as package managers do."""
    renewed = library.with_suffix(".new")
    shutil.copy(library, renewed)
    renewed.rename(library)


@pytest.mark.parametrize("when", ["before the agent starts", "while it runs"])
def test_a_library_that_is_replaced_on_disk(
    agent: Callable[..., Agent], materials: Materials, tmp_path: Path, when: str
) -> None:
    spans_file = tmp_path / "spans.jsonl"
    libssl = copy_libssl(materials, tmp_path / "libraries")
    environment = {"LD_LIBRARY_PATH": str(libssl.parent)}
    with serving_peer(materials, "plain", CONNECTIONS, environment=environment) as (old, old_port):
        assert str(libssl) in Path(f"/proc/{old.pid}/maps").read_text()
        if when == "before the agent starts":
            replace(libssl)
        running = agent("run", "--exe", "*openssl_peer*", "--spans-file", str(spans_file))
        post(materials, old_port, "/old/0")
        if when == "while it runs":
            replace(libssl)
        assert f"{libssl} (deleted)" in Path(f"/proc/{old.pid}/maps").read_text()
        post(materials, old_port, "/old/1")
        with serving_peer(materials, "plain", CONNECTIONS, environment=environment) as (_, new_port):
            wait_for_probes(running.process.pid, str(libssl))
            post(materials, new_port, "/new/0")
            post(materials, old_port, "/old/2")
            post(materials, new_port, "/new/1")
            running.stop()
    assert_served(read_spans(spans_file), ["/old/0", "/old/1", "/new/0", "/old/2", "/new/1"])


def bind_mounted(materials: Materials, folder: Path) -> list[str]:
    """Return the words that start the peer where the path of libssl means another file than elsewhere."""
    copied = copy_libssl(materials, folder / "libraries")
    (libssl,) = (
        path for name, path in libraries_of(materials.openssl_peer).items() if name.startswith("libssl")
    )
    script = f'mount --bind "{copied}" "{libssl}" && exec "{materials.openssl_peer}" "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "openssl_peer"]


def changed_root(materials: Materials, folder: Path) -> list[str]:
    """Return the words that start the peer in a root folder that has nothing but what it needs."""
    root = folder / "root"
    issued = materials.certificates
    for path in (materials.openssl_peer, issued.certificate, issued.key):
        (root / str(path.parent).lstrip("/")).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / str(path).lstrip("/"))
    for library in libraries_of(materials.openssl_peer).values():
        place = root / str(library).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, place)
    return ["unshare", "--mount", "chroot", str(root), str(materials.openssl_peer)]


NAMESPACES: dict[str, Callable[[Materials, Path], list[str]]] = {
    "bind-mounted": bind_mounted,
    "changed-root": changed_root,
}


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_process_in_another_mount_namespace(
    agent: Callable[..., Agent], materials: Materials, tmp_path: Path, namespace: str
) -> None:
    program = NAMESPACES[namespace](materials, tmp_path)
    spans_file = tmp_path / "spans.jsonl"
    with serving_peer(materials, "plain", CONNECTIONS, program=program) as (_, older):
        running = agent("run", "--exe", "*openssl_peer*", "--spans-file", str(spans_file))
        post(materials, older, "/older/0")
        with serving_peer(materials, "plain", CONNECTIONS, program=program) as (_, newer):
            wait_for_probes(running.process.pid, "libssl.so.3")
            post(materials, newer, "/newer/0")
            post(materials, older, "/older/1")
            running.stop()
    assert_served(read_spans(spans_file), ["/older/0", "/newer/0", "/older/1"])
