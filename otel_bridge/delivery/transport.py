"""One OTLP request to the backend and what came of it, over gRPC or HTTP.

Owns connections, credentials, compression and the meaning of answers. It must not queue, retry or wait:
`queue` and `sender` do that.

Contract: `send` never raises for anything the network or the backend does; it returns one of four outcomes.
Requests come serialised. gRPC is imported only for a gRPC transport, requests only for an HTTP one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

MAX_RESPONSE_BYTES = 64 * 1024
"""What is read of a backend's answer. A partial success or an error status is a few hundred bytes."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The backend took the request; `rejected` of its spans it refused (OTLP "Partial Success")."""

    rejected: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """A transient failure; the backend may have said after how many seconds."""

    reason: str
    after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The request is over a size limit of the backend's; parts of it may pass."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The backend will never take this request."""

    reason: str


Outcome: TypeAlias = Delivered | TryAgain | TooLarge | Refused


class Transport(Protocol):
    """A way to the backend."""

    def send(self, request: bytes, timeout_seconds: float) -> Outcome:
        """Send a serialised ExportTraceServiceRequest; return within about the time-out."""

    def close(self) -> None:
        """Give up the connection; a `send` under way may end early with `TryAgain`."""
