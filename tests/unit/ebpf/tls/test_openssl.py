from __future__ import annotations

import pytest

from ebpf.tls.elf import Machine
from ebpf.tls.probes import TlsProgram, TlsStack
from tests.elf_images import (
    CHECK_SIZE,
    ENTRY,
    LEAVE,
    LOCAL_4TH,
    OPENSSL_3_0,
    OPENSSL_3_3,
    PUSHING,
    SHIFT_4TH,
    WIDEN_SIZE,
    Code,
    Image,
    call,
    inspect,
    jump,
)


def image(functions: dict[str, Code], rodata: bytes = b"") -> Image:
    return Image(
        functions=functions, exported=[name for name in functions if name[0].isupper()], rodata=rodata
    )


def points(subject: Image, name: str = "libssl.so.3") -> dict[TlsProgram, set[str]]:
    """Return which functions each program belongs to; every reading and writing one has its return."""
    stack = inspect(subject.build(), name)
    assert stack is not None
    assert stack.obstacle is None
    names = {subject.offset(function): function for function in subject.functions}
    found: dict[TlsProgram, set[str]] = {}
    for point in stack.points:
        found.setdefault(point.program, set()).add(names[point.offset])
    moving = {
        name
        for program, places in found.items()
        if program.name.startswith(("OPENSSL_READ", "OPENSSL_WRITE", "OPENSSL_SENDFILE"))
        for name in places
    }
    assert found.pop(TlsProgram.CALL_RETURN, set()) == moving
    assert found.pop(TlsProgram.HANDSHAKE_RETURN, set()) == found.get(TlsProgram.OPENSSL_HANDSHAKE, set())
    assert len(stack.points) == len(set(stack.points))
    return found


EITHER_WAY = {
    TlsProgram.OPENSSL_SENDFILE: {"SSL_sendfile"},
    TlsProgram.OPENSSL_HANDSHAKE: {"SSL_do_handshake"},
    TlsProgram.OPENSSL_FREE: {"SSL_free"},
}


def test_internal_functions_where_all_exported_ones_lead_there() -> None:
    assert points(image(OPENSSL_3_0)) == EITHER_WAY | {
        TlsProgram.OPENSSL_READ_EX: {"ssl_read_internal"},
        TlsProgram.OPENSSL_WRITE_EX: {"ssl_write_internal"},
        TlsProgram.OPENSSL_BIO_WRITE: {"bio_write_intern"},
    }


def test_internal_functions_since_flags_came() -> None:
    assert points(image(OPENSSL_3_3)) == EITHER_WAY | {
        TlsProgram.OPENSSL_READ_EX: {"ssl_read_internal"},
        TlsProgram.OPENSSL_WRITE_EX2: {"ssl_write_internal"},
        TlsProgram.OPENSSL_BIO_WRITE: {"bio_write_intern"},
    }


EXPORTED_READ = {TlsProgram.OPENSSL_READ: {"SSL_read"}, TlsProgram.OPENSSL_READ_EX: {"SSL_read_ex"}}


@pytest.mark.parametrize(
    "changes",
    [
        {"SSL_read_ex": (ENTRY, call("ssl_write_internal"), LEAVE)},  # another function
        {"SSL_read_ex": (ENTRY, LOCAL_4TH, call("ssl_read_internal"), LEAVE)},  # its own variable
        {"SSL_read_ex": (CHECK_SIZE, call("ssl_read_internal"), LEAVE)},  # on one of two ways
        {"SSL_read_ex": (ENTRY, LEAVE)},
        {"SSL_read": (ENTRY, call("ssl_read_internal"), LEAVE)},  # no count to be seen
        {"SSL_read": (ENTRY, LOCAL_4TH, b"\x31\xd2", call("ssl_read_internal"), LEAVE)},  # xor edx, edx
        {"SSL_read": (b"\x55", LOCAL_4TH, call("ssl_read_internal"), LEAVE)},  # push: nothing to be gained
        {"ssl_read_internal": (ENTRY, LEAVE)},  # likewise
        {"SSL_read": (ENTRY, LOCAL_4TH, b"\xe8\0\0\0\x70", LEAVE)},  # no code there
    ],
)
def test_exported_functions_where_anything_is_otherwise(changes: dict[str, Code]) -> None:
    found = points(image(OPENSSL_3_0 | changes))
    assert {program: found[program] for program in EXPORTED_READ} == EXPORTED_READ
    assert found[TlsProgram.OPENSSL_WRITE_EX] == {"ssl_write_internal"}, "each direction for itself"


def test_exported_functions_on_another_processor() -> None:
    subject = image(OPENSSL_3_0)
    subject.machine = Machine.AARCH64
    found = points(subject)
    assert found[TlsProgram.OPENSSL_READ] == {"SSL_read"}
    assert found[TlsProgram.OPENSSL_WRITE_EX] == {"SSL_write_ex"}
    assert found[TlsProgram.OPENSSL_BIO_WRITE] == {"BIO_write"}


def test_a_function_that_calls_another_exported_one_has_no_point_of_its_own() -> None:
    found = points(image(OPENSSL_3_3 | {"SSL_write": (ENTRY, call("ssl_write_internal"), LEAVE)}))
    assert found[TlsProgram.OPENSSL_WRITE] == {"SSL_write"}
    assert found[TlsProgram.OPENSSL_WRITE_EX2] == {"SSL_write_ex2"}
    assert TlsProgram.OPENSSL_WRITE_EX not in found


def test_one_that_calls_what_that_calls_is_covered_by_it() -> None:
    found = points(image(OPENSSL_3_3 | {"SSL_write_ex": (SHIFT_4TH, jump("ssl_write_internal"))}))
    assert found[TlsProgram.OPENSSL_WRITE_EX2] == {"ssl_write_internal"}
    assert TlsProgram.OPENSSL_WRITE_EX not in found


@pytest.mark.parametrize("inlined", [PUSHING, (SHIFT_4TH, jump("ssl_write_internal"))])
def test_one_that_has_all_of_it_inlined_has_a_point_of_its_own(inlined: Code) -> None:
    # as Node 24 is built
    found = points(
        image(
            OPENSSL_3_3
            | {"SSL_write": PUSHING, "SSL_write_ex": inlined}
            | ({"SSL_write_ex2": PUSHING} if inlined is PUSHING else {})
        )
    )
    assert found[TlsProgram.OPENSSL_WRITE] == {"SSL_write"}
    assert found[TlsProgram.OPENSSL_WRITE_EX] == {"SSL_write_ex"}
    assert found[TlsProgram.OPENSSL_WRITE_EX2] == {"SSL_write_ex2"}


def test_an_old_library_without_the_extended_functions() -> None:
    names = ("SSL_read", "SSL_write", "SSL_do_handshake", "SSL_free")
    functions: dict[str, Code] = dict.fromkeys(names, (ENTRY, LOCAL_4TH, call("internal"), LEAVE))
    functions["internal"] = PUSHING
    assert points(image(functions)) == {
        TlsProgram.OPENSSL_READ: {"SSL_read"},
        TlsProgram.OPENSSL_WRITE: {"SSL_write"},
        TlsProgram.OPENSSL_HANDSHAKE: {"SSL_do_handshake"},
        TlsProgram.OPENSSL_FREE: {"SSL_free"},
    }


def test_a_static_program_with_its_symbols() -> None:
    subject = Image(functions=OPENSSL_3_0, exported=[], linked=list(OPENSSL_3_0))
    assert points(subject, "program") == points(image(OPENSSL_3_0))


def test_libcrypto_has_the_ciphertext_and_no_more() -> None:
    functions = {name: OPENSSL_3_0[name] for name in ("bio_write_intern", "BIO_write", "BIO_write_ex")}
    assert points(image(functions), "libcrypto.so.3") == {TlsProgram.OPENSSL_BIO_WRITE: {"bio_write_intern"}}
    assert inspect(image(functions).build(), "program") is None, "a program that only hashes"


def test_an_imitation_on_top_of_another_library_is_left_to_that() -> None:
    functions: dict[str, Code] = dict.fromkeys(("SSL_read", "SSL_write", "SSL_free"), PUSHING)
    assert inspect(image(functions).build(), "libgnutls-openssl.so.27") is None


@pytest.mark.parametrize(
    ("marker", "library"),
    [("SSL_CTX_set_grease_enabled", "libssl.so"), ("BORINGSSL_self_test", "libcrypto.so")],
)
def test_boringssl(marker: str, library: str) -> None:
    functions: dict[str, Code] = dict.fromkeys(
        ("SSL_write", "SSL_do_handshake", "BIO_write", marker), PUSHING
    )
    stack = inspect(image(functions).build(), library)
    assert stack is not None
    assert stack.name == "boringssl"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (b"OpenSSL 3.0.19 27 Jan 2026\0", "3.0.19"),
        (b"OpenSSL 3.0.15+quic 3 Sep 2024\0", "3.0.15"),
        (b"OpenSSL 1.1.1w  11 Sep 2023\0", "1.1.1w"),
        (b"enable OpenSSL 3.0 legacy provider\0OpenSSL 3.5.8 1 Jul 2026\0", "3.5.8"),
        (b"OpenSSL 3.0.0 or later is needed\0", None),
        (b"OpenSSL 3", None),
    ],
)
def test_the_version_is_what_the_library_says_of_itself(text: bytes, version: str | None) -> None:
    stack = inspect(image(OPENSSL_3_0, rodata=text).build())
    assert isinstance(stack, TlsStack)
    assert stack.version == version


@pytest.mark.parametrize("functions", [OPENSSL_3_0, {"gnutls_record_send": PUSHING}])
def test_functions_that_are_not_in_code_are_none(functions: dict[str, Code]) -> None:
    data = bytearray(Image(functions=functions).build())
    data[64 + 56 + 4] = 4  # of the text segment: read, not execute
    assert inspect(bytes(data)) is None


def test_the_size_is_widened_from_the_argument() -> None:
    # movsxd of another register than the argument's
    other: Code = (ENTRY, LOCAL_4TH, b"\x48\x63\xd0", call("ssl_read_internal"), LEAVE)
    assert points(image(OPENSSL_3_0 | {"SSL_read": other}))[TlsProgram.OPENSSL_READ] == {"SSL_read"}
    assert WIDEN_SIZE in OPENSSL_3_0["SSL_read"]
