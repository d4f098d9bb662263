"""Private names of foreign packages that the product uses: each has a case here that says which one broke.

Such a name may change with any version of its package. A case checks what the product relies on, so that an
update fails here, with the reason, and not somewhere in a run.
"""

from __future__ import annotations

import inspect
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.otlp_receiver import free_port
from tests.unit.foreign_names import OWN_PACKAGES, Use, find_uses

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Case:
    """A foreign name, and what the product relies on."""

    name: str
    package: str
    """As it is installed."""
    file: str
    purpose: str
    """Completes "… needs it to …"."""
    check: Callable[[], None]

    def run(self) -> None:
        """Fail with a message that says what broke, in which version, where it matters and why."""
        try:
            self.check()
        except Exception as error:
            message = (
                f"{self.name} of {self.package} {installed_version(self.package)} is not what it was:"
                f" {type(error).__name__}: {error}. {self.file} needs it to {self.purpose}."
            )
            raise AssertionError(message) from error


def installed_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        # Debian's bcc has no metadata; importing it for its version would load LLVM.
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        return Path(spec.origin).with_name("version.py").read_text().partition("=")[2].strip(" '\"\n")


def check_http_transport() -> None:
    module = import_module("opentelemetry.exporter.http.transport._requests")
    requests = import_module("requests")
    transport = module.RequestsHTTPTransport(verify=True, cert=None, session=requests.Session())
    # Failures of the network are returned, never raised.
    address = f"http://127.0.0.1:{free_port()}"
    result = transport.request("POST", address, headers={"a": "b"}, timeout=5.0, data=b"")
    assert isinstance(result.error, requests.ConnectionError), result.error
    assert "response" in inspect.signature(module.RequestsHTTPResult).parameters
    transport.close()


def check_connections() -> None:
    module = import_module("urllib3.connection")
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        for kind in (module.HTTPConnection, module.HTTPSConnection):
            opened = kind("127.0.0.1", listener.getsockname()[1], timeout=5)._new_conn()
            assert isinstance(opened, socket.socket), opened
            opened.close()
        # It is what `connect` opens the connection with.
        connection = module.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=5)
        given = socket.create_connection(listener.getsockname())
        connection._new_conn = lambda: given
        connection.connect()
        assert connection.sock is given
        connection.close()


def check_http_headers() -> None:
    headers = dict(import_module("opentelemetry.exporter.otlp.proto.http")._OTLP_HTTP_HEADERS)
    named = {name.lower(): value for name, value in headers.items()}
    assert named["content-type"] == "application/x-protobuf", headers
    assert named["user-agent"].startswith("OTel-OTLP-Exporter-Python"), headers


def grpc_exporter() -> Any:
    exporter = import_module("opentelemetry.exporter.otlp.proto.grpc.trace_exporter").OTLPSpanExporter
    return exporter(endpoint=f"127.0.0.1:{free_port()}", insecure=True, headers=(("x-tenant", "a"),))


def check_grpc_channel() -> None:
    exporter = grpc_exporter()
    try:
        call = exporter._channel.unary_unary("/service/Method")
        assert {"timeout", "metadata"} <= set(inspect.signature(call.__call__).parameters)
        # An attribute that GrpcTransport adds must not take the place of one that the exporter has.
        assert not hasattr(exporter, "_export_bytes"), "the exporter has an _export_bytes of its own"
    finally:
        exporter.shutdown()


def check_grpc_headers() -> None:
    exporter = grpc_exporter()
    try:
        headers = dict(exporter._headers)
        assert headers["x-tenant"] == "a", headers
    finally:
        exporter.shutdown()


def check_request_timeout() -> None:
    client = import_module("kubernetes.client.rest").RESTClientObject
    assert "_request_timeout" in inspect.signature(client.request).parameters


def check_trace_state() -> None:
    # Level 2 of W3C Trace Context allows a key that begins with a digit; the SDK's own parser drops it.
    state = import_module("otel_bridge.sdk.readable_spans").ReceivedState("1a=b,c=d")
    assert state.to_header() == "1a=b,c=d", state.to_header()
    assert state.get("1a") == "b"


def check_hpack_tables() -> None:
    static = import_module("hpack.table").HeaderTable.STATIC_TABLE
    # RFC 7541, appendix A.
    assert len(static) == 61
    assert (static[0], static[60]) == ((b":authority", b""), (b"www-authenticate", b""))
    huffman = import_module("hpack.huffman_table")
    # A row for each state and half a byte: next state, flags, symbol.
    assert len(huffman.HUFFMAN_TABLE) % 16 == 0
    assert all(len(row) == 3 for row in huffman.HUFFMAN_TABLE)
    flags = {huffman.HUFFMAN_COMPLETE, huffman.HUFFMAN_EMIT_SYMBOL, huffman.HUFFMAN_FAIL}
    assert sorted(flags) == [1, 2, 4], flags


def require_bcc() -> None:
    """A machine without bcc goes without its cases, CI does not."""
    if find_spec("bcc") is None:
        lacking = "bcc is not installed (Debian's python3-bpfcc)"
        if os.environ.get("CI"):
            pytest.fail(lacking)
        pytest.skip(lacking)


def check_bcc() -> None:
    require_bcc()
    # In a process of its own: LLVM would stay in this one.
    code = (
        "import bcc; from bcc.libbcc import lib;"
        " lib.bpf_function_start, lib.bpf_function_size, lib.bpf_table_fd;"
        " import inspect; assert {'text', 'cflags'} <= set(inspect.signature(bcc.BPF).parameters);"
        " assert 'self.module' in inspect.getsource(bcc.BPF.__init__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


GRPC_EXPORTER = "opentelemetry.exporter.otlp.proto.grpc.trace_exporter.OTLPSpanExporter"
HTTP_TRANSPORT, GRPC_TRANSPORT = (
    f"otel_bridge/delivery/{protocol}_transport.py" for protocol in ("http", "grpc")
)

PRIVATE = [
    *(
        Case(
            f"opentelemetry.exporter.http.transport._requests.{name}",
            "opentelemetry-exporter-http-transport",
            HTTP_TRANSPORT,
            "send as the official exporter does: its TLS settings, its classes of failures",
            check_http_transport,
        )
        for name in ("RequestsHTTPResult", "RequestsHTTPTransport")
    ),
    *(
        Case(
            f"urllib3.connection.{name}._new_conn",
            "urllib3",
            "otel_bridge/delivery/attempt_deadline.py",
            "end a connection whose TLS handshake or answer drips",
            check_connections,
        )
        for name in ("HTTPConnection", "HTTPSConnection")
    ),
    Case(
        "opentelemetry.exporter.otlp.proto.http._OTLP_HTTP_HEADERS",
        "opentelemetry-exporter-otlp-proto-http",
        HTTP_TRANSPORT,
        "give its requests the content type of OTLP and the official user agent",
        check_http_headers,
    ),
    Case(
        f"{GRPC_EXPORTER}._channel",
        "opentelemetry-exporter-otlp-proto-grpc",
        GRPC_TRANSPORT,
        "send serialised requests over the official exporter's channel",
        check_grpc_channel,
    ),
    Case(
        f"{GRPC_EXPORTER}._headers",
        "opentelemetry-exporter-otlp-proto-grpc",
        GRPC_TRANSPORT,
        "send the configured headers as metadata",
        check_grpc_headers,
    ),
    Case(
        "opentelemetry.trace.TraceState._dict",
        "opentelemetry-api",
        "otel_bridge/sdk/readable_spans.py",
        "hand on members of a tracestate that the SDK's own parser would drop",
        check_trace_state,
    ),
    Case(
        "(_request_timeout=)",
        "kubernetes",
        "agent/workloads/kubernetes/access.py",
        "bound how long it waits for the API server",
        check_request_timeout,
    ),
]
UNDOCUMENTED = [
    Case(
        "hpack.table.HeaderTable.STATIC_TABLE",
        "hpack",
        "parsers/http2/headers.py",
        "look the fields of HPACK's static table up",
        check_hpack_tables,
    ),
    Case(
        "hpack.huffman_table",
        "hpack",
        "parsers/http2/huffman.py",
        "decode Huffman-coded strings",
        check_hpack_tables,
    ),
    Case(
        "bcc.libbcc.lib",
        "bcc",
        "ebpf/compiler_child.py",
        "take compiled programs and maps out of bcc",
        check_bcc,
    ),
]
"""Names without an underscore that their packages don't document all the same."""


def product_sources() -> dict[str, str]:
    files = (file for package in OWN_PACKAGES for file in (ROOT / package).rglob("*.py"))
    return {str(file.relative_to(ROOT)): file.read_text() for file in files}


@pytest.mark.parametrize("case", [*PRIVATE, *UNDOCUMENTED], ids=lambda case: case.name)
def test_a_foreign_name_is_what_the_product_relies_on(case: Case) -> None:
    case.run()


def test_every_private_foreign_name_has_a_case_and_every_case_is_used() -> None:
    used = find_uses(product_sources())
    cases = {Use(case.name, case.file) for case in PRIVATE}
    assert sorted(used - cases) == [], "private names of foreign packages without a case in PRIVATE"
    assert sorted(cases - used) == [], "cases of names that are not used there any more"


@pytest.mark.parametrize("case", UNDOCUMENTED, ids=lambda case: case.name)
def test_an_undocumented_name_is_used_where_its_case_says(case: Case) -> None:
    module, _, name = case.name.rpartition(".")
    text = (ROOT / case.file).read_text()
    assert name in text
    assert module.removesuffix(".HeaderTable") in text


@pytest.mark.parametrize("case", [*PRIVATE, *UNDOCUMENTED], ids=lambda case: case.name)
def test_the_version_of_a_package_is_known(case: Case) -> None:
    if case.package == "bcc":
        require_bcc()
    assert installed_version(case.package)[0].isdecimal()


def test_a_failure_says_what_broke_where_and_why() -> None:
    def break_down() -> None:
        raise AttributeError("no such thing")

    case = Case("h11._gone", "h11", "parsers/some.py", "read heads", break_down)
    with pytest.raises(AssertionError) as raised:
        case.run()
    for part in ("h11._gone", f"h11 {version('h11')}", "parsers/some.py", "read heads", "no such thing"):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from a._b import c", ["a._b.c"]),
        ("from a.b import _c", ["a.b._c"]),
        ("from a.b import _c as d", ["a.b._c"]),
        ("import a._b", ["a._b"]),
        ("import a._b as c", ["a._b"]),
        ("import a.b\na.b._c()", ["a.b._c"]),
        ("def f():\n    import a\n    a.b._c", ["a.b._c"]),
        ("from a import B\nx = B._c", ["a.B._c"]),
        ("x = f()\nx._c", ["*._c"]),
        ("getattr(x, '_c', None)", ["*._c"]),
        ("import a\nsetattr(a, '_c', 1)", ["a._c"]),
        ("f(_c=1)", ["(_c=)"]),
        ("import a\nclass D(a.B):\n    def f(self): self._c", ["a.B._c"]),
        ("from a import B\nclass D(B[int]):\n    def f(self): return super()._c()", ["a.B._c"]),
        ("from a import B\nclass E(B): pass\nclass D(E):\n    def f(self): self._c", ["a.B._c"]),
        ("import sys\nsys._getframe()", ["sys._getframe"]),
    ],
)
def test_private_foreign_names_are_found(text: str, expected: list[str]) -> None:
    assert sorted(use.name for use in find_uses({"file.py": text})) == expected


@pytest.mark.parametrize(
    "text",
    [
        "from __future__ import annotations",
        "from parsers.http1 import _own\nimport agent\nagent._x = 1",
        "class A:\n    def __init__(self): self._x = 1\ndef f(a): return a._x, getattr(a, '_x')",
        "class A:\n    __slots__ = ('_x',)\ndef f(a): a._x",
        "class A:\n    def f(self): self._x",
        "import a\nclass D(a.B):\n    def f(self): self._c = self.d = self._c; self.__class__",
        "import zlib\nx: zlib._Decompress\ndef f(a: zlib._Decompress) -> zlib._Decompress: ...",
        "def f(t): return t._replace(a=1), t._fields",
        "import a\na.__version__; a.b",
        "def f(_x): ...\nf(_x=1)",
        "for _ in x: _.y",
        "import a\nclass D:\n    def _c(self):\n        class E(a.B):\n            f = lambda: self._c",
        "import a\nclass E(a.B):\n    def f(self): self._c = 1\nclass D(E):\n    def g(self): self._c",
    ],
)
def test_what_is_own_public_or_does_not_run_is_not_found(text: str) -> None:
    assert find_uses({"file.py": text}) == set()
