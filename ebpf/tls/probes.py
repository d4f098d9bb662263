"""The records of TLS probing: the programs of the kernel side that can be attached, and where they belong.

Owns the vocabulary between the readers of executable files (this folder), the capture that attaches, and the
agent, which keeps which process has mapped what. It must not read a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class TlsProgram(Enum):
    """A program of bpf/program.bpf.c, by its name there; it sees the arguments of the probed function."""

    OPENSSL_READ = "openssl_read"
    """SSL_read(ssl, buffer, size): how many, or not above 0."""
    OPENSSL_READ_EX = "openssl_read_ex"
    """SSL_read_ex(ssl, buffer, size, size_t *moved): 1 for success."""
    OPENSSL_WRITE = "openssl_write"
    """SSL_write(ssl, buffer, size)."""
    OPENSSL_WRITE_EX = "openssl_write_ex"
    """SSL_write_ex(ssl, buffer, size, size_t *moved)."""
    OPENSSL_WRITE_EX2 = "openssl_write_ex2"
    """SSL_write_ex2(ssl, buffer, size, flags, size_t *moved): OpenSSL 3.3 and later."""
    OPENSSL_SENDFILE = "openssl_sendfile"
    """SSL_sendfile(ssl, fd, offset, size, flags): a number of bytes; the bytes themselves can't be seen."""
    OPENSSL_HANDSHAKE = "openssl_handshake"
    """SSL_do_handshake(ssl)."""
    OPENSSL_BIO_WRITE = "openssl_bio_write"
    """BIO_write(bio, data, int size): ciphertext on its way, when inside one of the functions above."""
    OPENSSL_FREE = "openssl_free"
    """SSL_free(ssl)."""
    GNUTLS_READ = "gnutls_read"
    """gnutls_record_recv(session, buffer, size): how many, or not above 0."""
    GNUTLS_WRITE = "gnutls_write"
    """gnutls_record_send(session, buffer, size)."""
    GNUTLS_HANDSHAKE = "gnutls_handshake"
    """gnutls_handshake(session)."""
    GNUTLS_FREE = "gnutls_free"
    """gnutls_deinit(session)."""
    CALL_RETURN = "tls_call_return"
    """Return of any reading or writing function above, as a uretprobe."""
    HANDSHAKE_RETURN = "tls_handshake_return"
    """Return of any handshake above, as a uretprobe."""
    GO_READ = "go_read"
    """Entry of crypto/tls.(*Conn).Read."""
    GO_WRITE = "go_write"
    """Entry of crypto/tls.(*Conn).Write."""
    GO_RETURN = "go_return"
    """Each return instruction of these two, as a uprobe: a uretprobe would break Go's stack."""
    GO_HANDSHAKE = "go_handshake"
    """Entry of crypto/tls.(*Conn).clientHandshake and serverHandshake."""
    GO_CLOSE = "go_close"
    """Entry of crypto/tls.(*Conn).Close."""

    @property
    def is_uretprobe(self) -> bool:
        """Whether it runs when the function that begins at the offset returns."""
        return self in (TlsProgram.CALL_RETURN, TlsProgram.HANDSHAKE_RETURN)


@dataclass(frozen=True, slots=True)
class ProbePoint:
    """One place in one file."""

    program: TlsProgram
    offset: int
    """In bytes from the beginning of the file, as the kernel takes it: not a virtual address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsStack:
    """An implementation of TLS that was found in a file."""

    name: str
    """`openssl`, `boringssl`, `gnutls`, `go`, `nss`, `rustls`, `java`: what people call it."""
    version: str | None = None
    """As the file says it, where it does."""
    points: tuple[ProbePoint, ...] = ()
    """Where to attach; none when it can't be tapped."""
    obstacle: str | None = None
    """Why it can't be tapped, for people to read; None when it can."""
