"""Where the Docker Engine of this host listens.

Owns the order in which that is looked for. Nothing is connected to.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

DEFAULT_SOCKET = Path("/var/run/docker.sock")
_UNIX = "unix://"


def find_engine_socket(
    configured: str | None, environment: Mapping[str, str], default: Path = DEFAULT_SOCKET
) -> Path | None:
    """Return the socket of the Engine; None when there seems to be none.

    What is configured, else a DOCKER_HOST that names a Unix socket: these are taken at their word, also
    before the Engine has started. Else the usual place, if there is a socket now. An Engine behind any other
    DOCKER_HOST runs its containers on another host as often as not, and is not asked.
    """
    if configured is not None:
        return Path(configured.removeprefix(_UNIX))
    host = environment.get("DOCKER_HOST", "")
    if host.startswith(_UNIX):
        return Path(host.removeprefix(_UNIX))
    return default if default.is_socket() else None
