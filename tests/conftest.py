from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.containers.engine import DAEMON, Engine
from tests.kubernetes.api_server import ApiServer, missing_parts, running_api_server
from tests.running_agent import Agent

# A deadline per example would fail on a busy machine, not on a slow parser; pytest's own timeout bounds the
# whole.
settings.register_profile("wirespan", deadline=None, max_examples=200)
# For make test-fast: a look, where all tests take a closer one.
settings.register_profile("fast", deadline=None, max_examples=20)
# For a search that takes minutes: pytest tests/property --hypothesis-profile=soak --timeout=0
settings.register_profile("soak", deadline=None, max_examples=6000)
settings.load_profile("wirespan")


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """A Docker Engine of the tests' own. A machine without Docker goes without these tests, CI does not."""
    lacking = ""
    if shutil.which(DAEMON) is None:
        lacking = "dockerd is not installed (Debian's docker.io)"
    elif os.geteuid() != 0:
        lacking = "dockerd needs root"
    if lacking and os.environ.get("CI") == "true":
        pytest.fail(lacking)
    if lacking:
        pytest.skip(lacking)
    # The paths of sockets are short (108 bytes), and the folders of pytest are not.
    with tempfile.TemporaryDirectory(prefix="wirespan-docker-") as folder:
        engine = Engine(Path(folder))
        yield engine
        engine.close()


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One API server for all tests. A machine that can't run it goes without those, CI does not."""
    missing = missing_parts()
    if missing is not None:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with running_api_server(tmp_path_factory.mktemp("api-server")) as server:
        yield server


@pytest.fixture
def agent() -> Iterator[Callable[..., Agent]]:
    """Start `wirespan` with these arguments and wait until it is ready."""
    with contextlib.ExitStack() as closing:

        def start(*arguments: str, **options: Any) -> Agent:
            started = Agent(*arguments, **options)
            closing.callback(started.close)
            return started

        yield start
