"""What is kept of the API's objects: a pod, a namespace, a service, and their owners.

Owns reading their JSON. An object of the API runs to tens of kilobytes. One or two of them matter here, and
only they are kept. Contract: JSON of any shape yields a record or None, never an exception that its author
could provoke; what isn't there is None or empty.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from agent.workloads.kubernetes.annotations import PREFIX

JsonObject: TypeAlias = Mapping[str, Any]

STATIC_POD_HASH = "kubernetes.io/config.hash"
"""Annotation of the mirror of a static pod: the UID that kubelet gave the pod itself, and its cgroup."""
TEMPLATE_HASH_LABEL = "pod-template-hash"
"""Label of the Deployment controller for its ReplicaSets and their pods; a ReplicaSet's name ends in it."""

_RELEASED_PHASES = ("Succeeded", "Failed")
"""A pod of these phases has given its addresses back."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The controller of an object."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a pod; also an init or ephemeral one."""

    name: str
    image: str | None
    ids: tuple[str, ...] = ()
    """The present id and, after a restart, the one before; empty while none was started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod. Two are equal when nothing that matters differs."""

    uid: str
    name: str
    namespace: str
    node: str | None = None
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    """Ours, and those to be exported."""
    owner: Owner | None = None
    addresses: tuple[str, ...] = ()
    """Its own; none when it shares those of the host."""
    static_uid: str | None = None
    containers: tuple[Container, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A namespace."""

    uid: str
    name: str
    annotations: Mapping[str, str]
    """Ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service with addresses of its own."""

    uid: str
    name: str
    namespace: str
    addresses: tuple[str, ...] = ()


def parse_pod(document: JsonObject, exported_annotations: Iterable[str] = ()) -> Pod | None:
    """Return what matters of a pod; `exported_annotations` are shell patterns over the keys to keep."""
    metadata, spec, status = (_object(document.get(part)) for part in ("metadata", "spec", "status"))
    uid, name, namespace = (_text(metadata.get(key)) for key in ("uid", "name", "namespace"))
    if not (uid and name and namespace):
        return None
    annotations = _texts(metadata.get("annotations"))
    globs = tuple(exported_annotations)
    kept = {
        key: value
        for key, value in annotations.items()
        if key.startswith(PREFIX) or any(fnmatchcase(key, glob) for glob in globs)
    }
    has_address = not spec.get("hostNetwork") and status.get("phase") not in _RELEASED_PHASES
    return Pod(
        uid=uid,
        name=name,
        namespace=namespace,
        node=_text(spec.get("nodeName")),
        labels=_texts(metadata.get("labels")),
        annotations=kept,
        owner=parse_owner(document),
        addresses=_addresses(_ips(status)) if has_address else (),
        static_uid=annotations.get(STATIC_POD_HASH),
        containers=tuple(_containers(spec, status)),
    )


def parse_namespace(document: JsonObject) -> Namespace | None:
    """Return what matters of a namespace."""
    metadata = _object(document.get("metadata"))
    uid, name = _text(metadata.get("uid")), _text(metadata.get("name"))
    if not (uid and name):
        return None
    annotations = _texts(metadata.get("annotations"))
    ours = {key: value for key, value in annotations.items() if key.startswith(PREFIX)}
    return Namespace(uid=uid, name=name, annotations=ours)


def parse_service(document: JsonObject) -> Service | None:
    """Return what matters of a service."""
    metadata, spec = _object(document.get("metadata")), _object(document.get("spec"))
    uid, name, namespace = (_text(metadata.get(key)) for key in ("uid", "name", "namespace"))
    if not (uid and name and namespace):
        return None
    listed = spec.get("clusterIPs")
    addresses = listed if isinstance(listed, list) else [spec.get("clusterIP")]
    return Service(uid=uid, name=name, namespace=namespace, addresses=_addresses(addresses))


def parse_owner(document: JsonObject) -> Owner | None:
    """Return the controller of an object."""
    for reference in _objects(_object(document.get("metadata")).get("ownerReferences")):
        kind, name, uid = (_text(reference.get(key)) for key in ("kind", "name", "uid"))
        if reference.get("controller") is True and kind and name and uid:
            return Owner(kind, name, uid)
    return None


def image_name(image: str) -> str:
    """Return an image reference without tag and digest: `registry:5000/shop/cart`."""
    name = image.partition("@")[0]
    repository, colon, tag = name.rpartition(":")
    # A colon before the last slash is that of the registry's port.
    return repository if colon and "/" not in tag else name


def _containers(spec: JsonObject, status: JsonObject) -> Iterator[Container]:
    for declared, reported in (
        ("containers", "containerStatuses"),
        ("initContainers", "initContainerStatuses"),
        ("ephemeralContainers", "ephemeralContainerStatuses"),
    ):
        ids = {each.get("name"): _container_ids(each) for each in _objects(status.get(reported))}
        for container in _objects(spec.get(declared)):
            name = _text(container.get("name"))
            if name:
                yield Container(name, _text(container.get("image")), ids.get(name, ()))


def _container_ids(status: JsonObject) -> tuple[str, ...]:
    ended = [
        _object(_object(status.get(key)).get("terminated")).get("containerID")
        for key in ("state", "lastState")
    ]
    ids: dict[str, None] = {}
    for text in (status.get("containerID"), *ended):
        # `containerd://0123…`: the runtime's name stands before the id, the cgroup has the id alone
        container_id = (_text(text) or "").rpartition("://")[2]
        if container_id:
            ids[container_id] = None
    return tuple(ids)


def _ips(status: JsonObject) -> list[Any]:
    return [each.get("ip") for each in _objects(status.get("podIPs"))] or [status.get("podIP")]


def _addresses(texts: Iterable[object]) -> tuple[str, ...]:
    """Return IP addresses in the one form that they are looked up in. A headless service's is "None"."""
    addresses: dict[str, None] = {}
    for text in texts:
        try:
            addresses[ipaddress.ip_address(_text(text) or "").compressed] = None
        except ValueError:
            continue
    return tuple(addresses)


def _object(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[JsonObject]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: object) -> dict[str, str]:
    return {key: text for key, text in _object(value).items() if isinstance(text, str)}
