"""Runs inside another kernel: what OpenSSL is told to encrypt there is captured, byte for byte."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import tempfile
import threading
from collections import Counter, defaultdict
from pathlib import Path

from ebpf.capture import LiveCapture
from ebpf.events import Direction, EventKind, SocketEvent
from ebpf.tls.inspection import inspect_file
from ebpf.uprobes import ProbeAttachment

CONNECTIONS, REQUESTS = 7, 5
BODY = bytes(range(256)) * 70
"""More than one record holds."""
REQUEST = b"GET /known HTTP/1.1\r\nHost: guest\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
QUIET_SECONDS = 1.0


def make_certificate(folder: Path) -> Path:
    """Return a file with a key and its certificate."""
    file = folder / "server.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=guest"
    )
    subprocess.run(
        [*command.split(), "-keyout", file, "-out", folder / "cert.pem"],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    with file.open("ab") as both:
        both.write((folder / "cert.pem").read_bytes())
    return file


def attach(capture: LiveCapture) -> list[ProbeAttachment]:
    """Attach to the library that this process uses."""
    attachments = []
    files = {line.split()[-1] for line in Path("/proc/self/maps").read_text(encoding="ascii").splitlines()}
    for path in files:
        name = path.rpartition("/")[2]
        if name.startswith(("libssl", "libcrypto")):
            descriptor = os.open(path, os.O_RDONLY)
            stack = inspect_file(descriptor, name)
            assert stack is not None
            attachments.append(capture.attach_probes(descriptor, stack.points))
            os.close(descriptor)
    assert len(attachments) == 2
    return attachments


def receive(endpoint: ssl.SSLSocket, left: int) -> None:
    """Read this many bytes."""
    while left:
        left -= len(endpoint.recv(min(left, 65_536)))


def converse(certificate: Path) -> None:
    """Make all requests."""
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(certificate)
    asking = ssl.create_default_context(cafile=str(certificate))
    asking.check_hostname = False
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(CONNECTIONS):
                with accepting.wrap_socket(listener.accept()[0], server_side=True) as server:
                    for _ in range(REQUESTS):
                        receive(server, len(REQUEST))
                        server.sendall(RESPONSE)

        serving = threading.Thread(target=serve)
        serving.start()
        for _ in range(CONNECTIONS):
            with asking.wrap_socket(socket.create_connection(listener.getsockname())) as client:
                for _ in range(REQUESTS):
                    client.sendall(REQUEST)
                    receive(client, len(RESPONSE))
        serving.join()


def check_tls(capture: LiveCapture) -> list[str]:
    """Return what is not as it must be."""
    with tempfile.TemporaryDirectory() as name:
        certificate = make_certificate(Path(name))
        attachments = attach(capture)
        traffic = threading.Thread(target=converse, args=(certificate,))
        traffic.start()
        streams: dict[tuple[int, Direction], bytes] = defaultdict(bytes)
        strangers = []
        while (busy := traffic.is_alive()) or (events := capture.poll(QUIET_SECONDS)):
            if busy:
                events = capture.poll(0.1)
            for event in events:
                if isinstance(event, SocketEvent) and event.kind is EventKind.DATA:
                    streams[event.connection_id, event.direction] += event.payload
                    if (event.socket.tls, event.socket.local_address) != ("openssl", "127.0.0.1"):
                        strangers.append(event.socket)
        for attachment in attachments:
            attachment.close()
    problems = [f"not of the session: {socket}" for socket in strangers[:3]]
    seen = Counter(streams.values())
    expected = {stream * REQUESTS: 2 * CONNECTIONS for stream in (REQUEST, RESPONSE)}
    if seen != expected:
        lengths = {len(stream): count for stream, count in seen.items()}
        problems.append(f"plaintext seen, by length: {lengths}")
    return problems
