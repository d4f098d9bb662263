"""What the TLS tests share: certificates and compiled programs, made once, and captures."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.certificates import issue_certificates
from tests.e2e.conftest import ExportedSpan, read_spans
from tests.e2e.tls.servers import HERE, Materials
from tests.running_agent import Agent


def _build(*command: str, folder: Path = HERE) -> None:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{' '.join(command)}:\n{ran.stderr}"


@pytest.fixture(scope="session")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Materials:
    folder = tmp_path_factory.mktemp("materials")
    for reachable in (folder, *folder.parents[:2]):
        reachable.chmod(0o755)
    go_peer, openssl_peer = folder / "go_peer", folder / "openssl_peer"
    _build("go", "build", "-buildvcs=false", "-o", str(go_peer), ".", folder=HERE / "go_peer")
    _build(
        *("gcc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", str(openssl_peer)),
        *("openssl_peer.c", "-lssl", "-lcrypto"),
    )
    return Materials(issue_certificates(folder), go_peer, openssl_peer)


class Capture:
    """An agent that writes `spans.jsonl`, and what it wrote."""

    def __init__(self, running: Agent, spans_file: Path) -> None:
        self.agent = running
        self.spans_file = spans_file

    def end(self) -> list[ExportedSpan]:
        """End the agent and return all its spans, by start."""
        self.agent.stop()
        return read_spans(self.spans_file)


@pytest.fixture
def capture(agent: Callable[..., Agent], tmp_path: Path) -> Callable[..., Capture]:
    """Start an agent that captures connections of a port, with more options."""

    def start(port: int, *options: str) -> Capture:
        spans_file = tmp_path / "spans.jsonl"
        running = agent("run", "--port", str(port), "--spans-file", str(spans_file), *options)
        return Capture(running, spans_file)

    return start
