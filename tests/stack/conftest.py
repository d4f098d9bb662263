"""The stack, with every image that it is made of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.containers.engine import Engine
from tests.image.build import build_image
from tests.stack.compose import Stack
from tests.stack.stand_ins import load_stand_ins


@pytest.fixture
def stack(docker_engine: Engine) -> Iterator[Stack]:
    build_image(docker_engine)
    load_stand_ins(docker_engine)
    stack = Stack(docker_engine)
    yield stack
    stack.compose("down", "--timeout", "1")
