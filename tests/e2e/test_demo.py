"""`wirespan demo` from start to end."""

import shutil

import pytest

from tests.e2e.conftest import wirespan

pytestmark = pytest.mark.e2e


def test_the_demo_shows_live_exchanges_and_ends_by_itself() -> None:
    ended = wirespan("demo", "--requests", "24", "--seconds", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "/products/7" in ended.stdout
    assert "REDACTED" in ended.stdout
    for secret in ("correct horse", "eyJhbGciOiJIUzI1NiJ9", "k-123456", "4111 1111"):
        assert secret not in ended.stdout
    assert "Gadget 7" in ended.stdout, "bodies are shown"
    total = next(line for line in ended.stdout.splitlines() if line.startswith("total"))
    assert total.split()[1:] == ["24"] * (5 if shutil.which("nginx", path="/usr/sbin:/usr/bin") else 3)
