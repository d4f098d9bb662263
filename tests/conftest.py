from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.containers.engine import DAEMON, Engine

# A deadline per example would fail on a busy machine, not on a slow parser; pytest's own timeout bounds the
# whole.
settings.register_profile("wirespan", deadline=None, max_examples=200)
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
