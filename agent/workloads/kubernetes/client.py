"""Requests to the Kubernetes API, and what an answer means.

Owns time-outs, bounds on what is read, and renewing credentials that are refused. What is asked for, and how
often, belongs to the callers.

Contract: a request either answers within its time-out or raises an ApiError. Thread-safe.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from agent.workloads.kubernetes.access import Access, describe_cause
from agent.workloads.kubernetes.api import (
    ApiDeniedError,
    ApiError,
    ApiFailedError,
    ApiUnreachableError,
    BrokenOffError,
    ConflictError,
    KubeconfigError,
    NoSuchObjectError,
    Resource,
    ResourceExpiredError,
)
from agent.workloads.kubernetes.journal import ApiJournal

ANSWER_SECONDS = 30.0
"""Longest silence of the server in an answer; its own bound for most requests is 60 s."""
WATCH_GRACE_SECONDS = 15.0
"""How much longer than asked a watch may take to end before its connection counts as dead."""
MAX_ANSWER_BYTES = 64 * 1_048_576
"""Largest answer that is read: a page of 500 objects of 128 KiB each."""
MAX_EVENT_BYTES = 8 * 1_048_576
"""Longest line of a watch: etcd holds objects of 1.5 MiB, their JSON is a few times that at worst."""
READ_BYTES = 65_536
_BULK = frozenset(
    {"managedFields", "env", "envFrom", "volumes", "volumeMounts", "tolerations", "conditions", "resources"}
    | {"livenessProbe", "readinessProbe", "startupProbe", "affinity", "securityContext", "command", "args"}
)
"""The unused part of a pod, which is most of it: dropped while it is read. Otherwise a list of pods would
take five times its size for a moment, and the process would keep that memory."""
_METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class KubernetesApi:
    """One API server, as one user."""

    def __init__(self, kubeconfig: str | None = None, journal: ApiJournal | None = None) -> None:
        """Read the credentials; nothing is sent yet. Raises KubeconfigError."""
        self.journal = journal or ApiJournal()
        self._kubeconfig = kubeconfig
        self._lock = threading.Lock()
        self._access = Access(kubeconfig)

    def list(self, resource: Resource, parameters: Mapping[str, str]) -> dict[str, Any]:
        """Return a collection, or a page of it."""
        return self._answer("list", resource, resource.path(), parameters)

    def owner_metadata(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        """Return one object's metadata."""
        path = resource.path(namespace, name)
        return self._answer("get", resource, path, {}, accept=f"{_METADATA_ONLY},application/json")

    def create(self, resource: Resource, namespace: str, document: Mapping[str, Any]) -> None:
        """Create an object."""
        self._answer("create", resource, resource.path(namespace), {}, body=document)

    def watch(self, resource: Resource, parameters: Mapping[str, str], seconds: int) -> WatchStream:
        """Return the changes of a collection, for so many seconds."""
        asked = {**parameters, "watch": "true", "timeoutSeconds": str(seconds)}
        response = self._send(
            "watch", resource, resource.path(), asked, read_seconds=seconds + WATCH_GRACE_SECONDS
        )
        return WatchStream(response, resource, self.journal)

    def close(self) -> None:
        """Drop idle connections."""
        self._access.close()

    def _answer(
        self,
        verb: str,
        resource: Resource,
        path: str,
        parameters: Mapping[str, str],
        *,
        body: Mapping[str, Any] | None = None,
        accept: str = "application/json",
    ) -> dict[str, Any]:
        response = self._send(verb, resource, path, parameters, body=body, accept=accept)
        with contextlib.closing(response):
            content = _read(response, resource, self.journal)
        return _parse_json(content)

    def _send(
        self,
        verb: str,
        resource: Resource,
        path: str,
        parameters: Mapping[str, str],
        *,
        body: Mapping[str, Any] | None = None,
        accept: str = "application/json",
        read_seconds: float = ANSWER_SECONDS,
    ) -> Any:
        """Send a request, again with fresh credentials if they were refused; return the open answer."""
        target = f"{path}?{urlencode(parameters)}" if parameters else path
        access = self._access
        for is_last in (False, True):
            self.journal.count(f"requests_{resource.plural}")
            response = access.request(target, body, accept, read_seconds)
            status = int(response.status)
            if status < 300:
                self.journal.allowed(verb, str(resource))
                return response
            with contextlib.closing(response):
                content = _read(response, resource, self.journal)
            if status == 401 and not is_last:
                access = self._renew(access)
                continue
            raise self._refusal(status, verb, resource, content)
        raise AssertionError("unreachable")

    def _renew(self, used: Access) -> Access:
        """Read the credentials again, unless another thread just has."""
        with self._lock:
            if self._access is used:
                self.journal.count("credentials_renewed")
                try:
                    self._access = Access(self._kubeconfig)
                except KubeconfigError as error:
                    raise ApiUnreachableError(f"the credentials can't be read any more: {error}") from None
                used.close()
            return self._access

    def _refusal(self, status: int, verb: str, resource: Resource, content: bytearray) -> ApiError:
        message = _message(content)
        # Also 403, but no matter of rights: nothing is created any more in a namespace that is being deleted.
        if status == 403 and b'"NamespaceTerminating"' in content:
            return ConflictError(message)
        if status in (401, 403):
            remedy = (
                "the token or certificate is not accepted"
                if status == 401
                else f'grant its user the verb "{verb}" on {resource} in a ClusterRole'
            )
            text = f"not allowed to {verb} {resource} ({status}: {message}); {remedy}"
            self.journal.denied(verb, str(resource), text)
            return ApiDeniedError(text)
        meaning = {404: NoSuchObjectError, 409: ConflictError, 410: ResourceExpiredError}.get(status)
        if meaning is not None:
            return meaning(f"{verb} {resource}: {message} ({status})")
        return ApiFailedError(f"{verb} {resource} failed ({status}: {message})")


class WatchStream:
    """The changes of a collection as they happen. Another thread may abort it."""

    def __init__(self, response: Any, resource: Resource, journal: ApiJournal) -> None:
        self._response = response
        self._resource = resource
        self._journal = journal

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield type and object of each event until the server ends the watch. Raises ApiError."""
        pending = b""
        for part in _parts(self._response, self._resource, self._journal):
            *lines, pending = (pending + part).split(b"\n")
            if len(pending) > MAX_EVENT_BYTES:
                self._journal.count("oversized_answers")
                raise ApiUnreachableError(
                    f"an event of {self._resource} is longer than {MAX_EVENT_BYTES} bytes"
                )
            for line in lines:
                if line.strip():
                    yield self._event(line)

    def _event(self, line: bytes) -> tuple[str, dict[str, Any]]:
        event = _parse_json(line)
        kind, document = event.get("type"), event.get("object")
        if not isinstance(kind, str) or not isinstance(document, dict):
            raise ApiUnreachableError(f"a watch of {self._resource} said something that is no event")
        if kind == "ERROR":
            message = str(document.get("message", "no message"))
            if document.get("code") == 410:
                raise ResourceExpiredError(message)
            raise ApiFailedError(f"the watch of {self._resource} ended: {message}")
        return kind, document

    def abort(self) -> None:
        """Make the thread that reads the events stop."""
        # Already at its end: no thread is reading.
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            self._response.shutdown()

    def close(self) -> None:
        """Give the connection up."""
        with contextlib.suppress(OSError, ValueError):
            self._response.close()


def _parts(response: Any, resource: Resource, journal: ApiJournal) -> Iterator[bytes]:
    from urllib3.exceptions import HTTPError

    try:
        for part in response.stream(READ_BYTES, decode_content=False):
            journal.count(f"received_bytes_{resource.plural}", len(part))
            yield part
    # An aborted TLS connection ends in ValueError or AttributeError, depending on where it was met.
    except (HTTPError, OSError, ValueError, AttributeError) as error:
        raise BrokenOffError(f"the answer about {resource} broke off: {describe_cause(error)}") from None


def _read(response: Any, resource: Resource, journal: ApiJournal) -> bytearray:
    content = bytearray()
    for part in _parts(response, resource, journal):
        content += part
        if len(content) > MAX_ANSWER_BYTES:
            journal.count("oversized_answers")
            raise ApiUnreachableError(f"an answer about {resource} is longer than {MAX_ANSWER_BYTES} bytes")
    return content


def _parse_json(content: bytes | bytearray) -> dict[str, Any]:
    try:
        document = json.loads(content, object_hook=_without_bulk)
    except ValueError:
        raise ApiUnreachableError("the answer is not JSON") from None
    if not isinstance(document, dict):
        raise ApiUnreachableError("the answer is not an object")
    return document


def _without_bulk(document: dict[str, Any]) -> dict[str, Any]:
    for key in _BULK & document.keys():
        # a label may have such a name, but its value is text
        if not isinstance(document[key], str):
            del document[key]
    return document


def _message(content: bytearray) -> str:
    """Return the message of a Status, or the beginning of whatever a proxy said instead."""
    try:
        message = json.loads(content)["message"]
    except (ValueError, KeyError, TypeError):
        message = content[:200].decode(errors="replace")
    return " ".join(str(message).split())[:300] or "no message"
