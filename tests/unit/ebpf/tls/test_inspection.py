from __future__ import annotations

import os
from pathlib import Path

import pytest

from ebpf.tls.inspection import inspect_file, may_hold_tls


@pytest.mark.parametrize(
    "name",
    [
        "libssl.so.3",
        "libssl-81ffa89e.so.1.1",  # as Python wheels rename it
        "libssl3.so",
        "libcrypto.so.3",
        "libgnutls.so.30",
        "libnss3.so",
        "libnspr4.so",
        "libjvm.so",
        "libnode.so.108",
        "libpython3.12.so.1.0",
        "libconscrypt_jni.so",
        "libnetty_tcnative_linux_x86_64.so",
        "cygrpc.cpython-311-x86_64-linux-gnu.so",
        "_rust.abi3.so",
    ],
)
def test_libraries_that_may_hold_tls(name: str) -> None:
    assert may_hold_tls(name, is_executable=False)


@pytest.mark.parametrize("name", ["libc.so.6", "libcurl.so.4", "ld-linux-x86-64.so.2", "libresolv.so.2", ""])
def test_others_only_as_a_program(name: str) -> None:
    assert not may_hold_tls(name, is_executable=False)
    assert may_hold_tls(name, is_executable=True)


def test_a_descriptor_that_can_not_be_read_holds_no_tls(tmp_path: Path) -> None:
    for path, flags in ((tmp_path, os.O_RDONLY), (tmp_path / "new", os.O_WRONLY | os.O_CREAT)):
        descriptor = os.open(path, flags)
        try:
            assert inspect_file(descriptor, path.name) is None
        finally:
            os.close(descriptor)
    assert inspect_file(descriptor, "closed") is None
