"""The image, and the agent in containers of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from tests.containers.engine import Container, Engine
from tests.image.build import build_image

StartContainer: TypeAlias = Callable[..., Container]


@pytest.fixture(scope="session")
def image(docker_engine: Engine) -> str:
    return build_image(docker_engine)


@pytest.fixture
def start(docker_engine: Engine) -> Iterator[StartContainer]:
    """Start containers that are removed after the test."""
    with contextlib.ExitStack() as closing:

        def run(*command: str, **options: object) -> Container:
            container = docker_engine.run_container(*command, **options)  # type: ignore[arg-type]
            closing.callback(container.remove)
            return container

        yield run


@pytest.fixture
def start_agent(docker_engine: Engine, image: str, start: StartContainer) -> StartContainer:
    """Start the agent with these arguments, and no more rights than it needs, and wait until it is ready."""

    def run(*arguments: str) -> Container:
        container = start(*arguments, image=image, network="none", options=_confinement(docker_engine))
        container.wait_for_message("ready")
        return container

    return run


def _confinement(engine: Engine) -> tuple[str, ...]:
    major = int(engine.docker("version", "--format", "{{.Server.Version}}").partition(".")[0])
    # Older ones don't know the first two, which were part of the last until Linux 5.8.
    loading = ("BPF", "PERFMON") if major >= 23 else ("SYS_ADMIN",)
    named = [f"--cap-add={name}" for name in (*loading, "SYS_PTRACE", "DAC_READ_SEARCH")]
    return (
        *("--pid=host", "--read-only", "--cap-drop=ALL", *named, "--security-opt=no-new-privileges"),
        *("--volume", f"{engine.socket}:/var/run/docker.sock:ro"),
    )
