"""What `--container NAME|ID|GLOB` means.

Owns the comparison of a container with what the user wrote, with regard to case. Pure. Whether a container
whose name is not known yet has to wait for a verdict belongs to the caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from agent.workloads.workload import Workload

# As `docker ps` and `crictl ps` show an id: 12 digits. Shorter ones could be words (`cafe`, `deed`).
_ID_PREFIX = re.compile("[0-9a-f]{12,64}")


def is_meant(workload: Workload, patterns: Iterable[str]) -> bool:
    """Return whether one of the patterns means a container.

    A pattern is one of its names, a shell pattern over its names, or the first 12 or more digits of its id.
    A name is also taken as it stands, should it hold a character that a shell pattern gives a meaning.
    """
    return any(_matches(workload, pattern) for pattern in patterns)


def _matches(workload: Workload, pattern: str) -> bool:
    if _ID_PREFIX.fullmatch(pattern) and workload.container_id.startswith(pattern):
        return True
    return any(name == pattern or fnmatchcase(name, pattern) for name in workload.names)
