"""The instrumentation scope of every span: what made it."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

SCOPE_NAME = "wirespan"


@cache
def scope_version() -> str:
    """Return the version of this distribution; empty in a tree that was never installed."""
    try:
        return version(SCOPE_NAME)
    except PackageNotFoundError:
        return ""
