from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.containers.engine import DAEMON, Engine
from tests.kubernetes.api_server import ApiServer, missing_parts, running_api_server
from tests.running_agent import Agent

# Variables of the shell that the agent, its libraries and the programs of the tests would read.
_READ_BY_THE_AGENT = ("OTEL_", "WIRESPAN_", "KUBERNETES_")
_READ_BY_SOME = {"COLUMNS", "DOCKER_HOST", "KUBECONFIG", "NODE_NAME", "NO_COLOR", "TZ"}
for _name in [*os.environ]:
    if _name.startswith(_READ_BY_THE_AGENT) or _name in _READ_BY_SOME:
        del os.environ[_name]
time.tzset()
os.environ["LC_ALL"] = "C.UTF-8"
# Proxies stay in force for downloads, such as Go modules, but not for the servers of the tests.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost,127.0.0.0/8,127.0.0.1,::1,[::1],.invalid"

# A deadline per example would fail on a busy machine, not on a slow parser; pytest's own timeout bounds the
# whole.
settings.register_profile("wirespan", deadline=None, max_examples=200)
# For make test-fast and make coverage: few examples, and always the same ones, so that coverage is the same.
settings.register_profile("fast", deadline=None, max_examples=20, derandomize=True, database=None)
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
