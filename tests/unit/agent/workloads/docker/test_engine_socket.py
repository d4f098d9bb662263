import socket
from pathlib import Path

import pytest

from agent.workloads.docker.engine_socket import find_engine_socket


def test_what_is_configured_wins(tmp_path: Path) -> None:
    environment = {"DOCKER_HOST": "unix:///run/other.sock"}
    assert find_engine_socket("/run/mine.sock", environment) == Path("/run/mine.sock")
    assert find_engine_socket("unix:///run/mine.sock", environment) == Path("/run/mine.sock")


def test_docker_host_wins_over_the_usual_place(tmp_path: Path) -> None:
    found = find_engine_socket(None, {"DOCKER_HOST": "unix:///run/other.sock"}, tmp_path / "docker.sock")
    assert found == Path("/run/other.sock")


@pytest.mark.parametrize(
    "environment", [{}, {"DOCKER_HOST": ""}, {"DOCKER_HOST": "tcp://build.example:2376"}]
)
def test_the_usual_place_counts_when_there_is_a_socket(environment: dict[str, str], tmp_path: Path) -> None:
    usual = tmp_path / "docker.sock"
    assert find_engine_socket(None, environment, usual) is None
    usual.touch()
    assert find_engine_socket(None, environment, usual) is None
    usual.unlink()
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(usual))
        assert find_engine_socket(None, environment, usual) == usual
