from __future__ import annotations

import pytest

from tests.elf_images import OPENSSL_3_0, PUSHING, Image, inspect

RUSTLS = "rustls is compiled into the program, without functions of a fixed shape to probe"
CARGO = b"/home/builder/registry/src/6f17d22bba15001f"


@pytest.mark.parametrize(
    ("function", "library", "name"),
    [
        ("SSL_ImportFD", "libssl3.so", "nss"),
        ("NSS_NoDB_Init", "libnss3.so", "nss"),
        ("PR_ImportTCPSocket", "libnspr4.so", "nss"),
        ("mbedtls_ssl_read", "libmbedtls.so.14", "mbedtls"),
        ("wolfSSL_read", "libwolfssl.so.35", "wolfssl"),
        ("s2n_recv", "libs2n.so.1", "s2n"),
    ],
)
def test_libraries_are_known_by_a_function(function: str, library: str, name: str) -> None:
    stack = inspect(Image(functions={function: PUSHING}).build(), library)
    assert stack is not None
    assert (stack.name, stack.points) == (name, ())
    assert stack.obstacle


def test_one_that_is_linked_statically_is_known_by_its_symbols() -> None:
    stack = inspect(Image(functions={"s2n_recv": PUSHING}, exported=[], linked=["s2n_recv"]).build())
    assert stack is not None
    assert stack.name == "s2n"


def test_java_is_known_by_its_machine() -> None:
    image = Image(functions={"JNI_CreateJavaVM": PUSHING}).build()
    stack = inspect(image, "libjvm.so")
    assert stack is not None
    assert (stack.name, stack.obstacle) == (
        "java",
        "JSSE encrypts in bytecode; there is no function to probe",
    )
    assert inspect(image, "libother.so") is None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"../ssl/ssl_lib.c\0", "openssl"),
        (b"external/boringssl/src/ssl/ssl_lib.cc\0", "boringssl"),
        (b"ssl/ssl_lib.c", "openssl"),
    ],
)
def test_openssl_without_symbols_is_known_by_the_names_of_its_sources(path: bytes, name: str) -> None:
    stack = inspect(Image(rodata=path).build())
    assert stack is not None
    assert (stack.name, stack.obstacle) == (name, "statically linked without symbols")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (CARGO + b"/rustls-0.23.12/src/conn.rs", "0.23.12"),
        (CARGO + b"/rustls-0.23.0-alpha.0/src/conn.rs", "0.23.0"),
        (b"vendor/rustls/src/conn.rs", None),
        (CARGO + b"/rustls-native-certs-0.7.0/src/lib.rs" + CARGO + b"/rustls-0.22.4/src/lib.rs", "0.22.4"),
    ],
)
def test_rustls_is_known_by_the_paths_of_its_sources(text: bytes, version: str | None) -> None:
    stack = inspect(Image(rodata=text).build())
    assert stack is not None
    assert (stack.name, stack.version, stack.obstacle) == ("rustls", version, RUSTLS)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        CARGO + b"/rustls-native-certs-0.7.0/src/lib.rs",
        CARGO + b"/tokio-rustls-0.26.0/src/lib.rs",
        b"built with OpenSSL 3.0.19 27 Jan 2026\0",
        b"/rustls",
    ],
)
def test_what_only_speaks_of_one_has_none(text: bytes) -> None:
    assert inspect(Image(rodata=text).build()) is None


def test_what_can_be_tapped_comes_first() -> None:
    functions = OPENSSL_3_0 | {"s2n_recv": PUSHING}
    stack = inspect(Image(functions=functions, rodata=CARGO + b"/rustls-0.23.12/src/conn.rs").build())
    assert stack is not None
    assert stack.name == "openssl"
