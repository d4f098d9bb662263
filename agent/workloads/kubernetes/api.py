"""The vocabulary of requests to the Kubernetes API: kinds of objects, and what a request can come to.

Owns no connection: making requests is `client`'s, asking for them is everybody's.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


class KubeconfigError(ValueError):
    """The address of the API or the agent's credentials are unknown. The message says what to do."""


class ApiError(Exception):
    """A request that came to nothing."""


class ApiUnreachableError(ApiError):
    """No answer, or none that means anything: worth trying again."""


class BrokenOffError(ApiUnreachableError):
    """An answer that began and did not end. Load balancers do that to long ones."""


class ApiFailedError(ApiUnreachableError):
    """An answer that says the server could not (5xx, 429)."""


class ApiDeniedError(ApiError):
    """The server refuses us (401) or the request (403). The message names the right that is missing."""


class ResourceExpiredError(ApiError):
    """The server has forgotten the resource version (410): list again."""


class NoSuchObjectError(ApiError):
    """There is no object of this name (404)."""


class ConflictError(ApiError):
    """There is one of this name already (409)."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object."""

    group: str
    """`api/v1` or `apis/apps/v1`."""
    plural: str

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Return the path of the collection, or of one object."""
        parts = [self.group]
        if namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
        return "/" + "/".join(parts)

    def __str__(self) -> str:
        group = self.group.split("/")
        return f"{self.plural}.{group[1]}" if group[0] == "apis" else self.plural


PODS = Resource("api/v1", "pods")
NAMESPACES = Resource("api/v1", "namespaces")
SERVICES = Resource("api/v1", "services")
EVENTS = Resource("api/v1", "events")
REPLICA_SETS = Resource("apis/apps/v1", "replicasets")
JOBS = Resource("apis/batch/v1", "jobs")
