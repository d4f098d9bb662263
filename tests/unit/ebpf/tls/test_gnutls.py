from __future__ import annotations

from ebpf.tls.probes import ProbePoint, TlsProgram
from tests.elf_images import PUSHING, Branch, Code, Image, call, inspect, jump

FUNCTIONS: dict[str, Code] = {
    "gnutls_record_recv": PUSHING,
    "gnutls_record_send": PUSHING,
    "gnutls_handshake": PUSHING,
    "gnutls_deinit": PUSHING,
}


def image(**changes: Code) -> Image:
    return Image(functions=FUNCTIONS | changes, rodata=b"Enabled GnuTLS 3.7.9 logging...\0")


def written(subject: Image) -> list[int]:
    stack = inspect(subject.build(), "libgnutls.so.30")
    assert stack is not None
    return [point.offset for point in stack.points if point.program is TlsProgram.GNUTLS_WRITE]


def test_the_functions_and_their_returns() -> None:
    subject = image()
    stack = inspect(subject.build(), "libgnutls.so.30")
    assert stack is not None
    assert (stack.name, stack.version, stack.obstacle) == ("gnutls", "3.7.9", None)
    assert stack.points == (
        ProbePoint(TlsProgram.GNUTLS_READ, subject.offset("gnutls_record_recv")),
        ProbePoint(TlsProgram.CALL_RETURN, subject.offset("gnutls_record_recv")),
        ProbePoint(TlsProgram.GNUTLS_WRITE, subject.offset("gnutls_record_send")),
        ProbePoint(TlsProgram.CALL_RETURN, subject.offset("gnutls_record_send")),
        ProbePoint(TlsProgram.GNUTLS_HANDSHAKE, subject.offset("gnutls_handshake")),
        ProbePoint(TlsProgram.HANDSHAKE_RETURN, subject.offset("gnutls_handshake")),
        ProbePoint(TlsProgram.GNUTLS_FREE, subject.offset("gnutls_deinit")),
    )


def test_sending_is_seen_where_both_functions_lead() -> None:
    for hand_over in (jump("gnutls_record_send2"), call("gnutls_record_send2")):
        # xor r8d, r8d; xor ecx, ecx
        sending: tuple[bytes | Branch, ...] = (b"\x45\x31\xc0\x31\xc9", hand_over)
        subject = image(gnutls_record_send=sending, gnutls_record_send2=PUSHING)
        assert written(subject) == [subject.offset("gnutls_record_send2")]


def test_sending_is_seen_at_its_own_function_where_that_does_more() -> None:
    subject = image(gnutls_record_send=PUSHING, gnutls_record_send2=PUSHING)
    assert written(subject) == [subject.offset("gnutls_record_send")]


def test_a_version_that_is_not_said_is_none() -> None:
    subject = Image(functions=FUNCTIONS, rodata=b"GnuTLS error\0")
    stack = inspect(subject.build())
    assert stack is not None
    assert stack.version is None


def test_a_program_without_the_anchor_has_none() -> None:
    assert inspect(Image(functions={"gnutls_deinit": PUSHING}).build()) is None
