"""Containers of the tests' own Engine, each removed at the end of its test, and discovery looking at them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from agent.workloads.docker.engine import DockerDiscovery
from tests.containers.engine import Container, Engine

RunServer: TypeAlias = Callable[..., Container]


@pytest.fixture
def run_server(docker_engine: Engine) -> Iterator[RunServer]:
    """Start a container that serves HTTP, with these options of `Engine.run_server`."""
    with contextlib.ExitStack() as closing:

        def run(name: str | None = None, **options: object) -> Container:
            server = docker_engine.run_server(name, **options)
            closing.callback(server.remove)
            return server

        yield run


@pytest.fixture
def discovery(docker_engine: Engine) -> Iterator[DockerDiscovery]:
    discovery = DockerDiscovery(docker_engine.socket)
    yield discovery
    discovery.close()
