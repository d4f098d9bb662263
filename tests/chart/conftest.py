"""Every test here runs helm. A machine without it goes without these tests, CI does not."""

from __future__ import annotations

import os

import pytest

from tests.chart.helm_command import missing_parts


@pytest.fixture(scope="session", autouse=True)
def helm_is_there() -> None:
    missing = missing_parts()
    if missing is not None:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
