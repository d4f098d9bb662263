"""From what the Docker Engine says of a container to the records of discovery.

Owns the names and attributes of a Docker container. Pure: answers and events of the Engine's API in, as
parsed JSON. Attributes are those of the semantic conventions, equal to what `docker inspect` shows:

    container.id              Id
    container.name            Name, without the leading slash
    container.image.name      Config.Image, without tag and digest
    container.label.KEY       Config.Labels, of the chosen keys only
    container.runtime.name    docker

`container.image.tags` is a list in the conventions, and attributes here are texts: it is left out. An image
that was named by its id has no name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from agent.workloads.workload import Workload

Json: TypeAlias = Mapping[str, Any]

COMPOSE_PROJECT = "com.docker.compose.project"
COMPOSE_SERVICE = "com.docker.compose.service"
DEFAULT_LABELS = (COMPOSE_PROJECT, COMPOSE_SERVICE)
"""Labels exported unless others are chosen: what a container is in the terms of its compose file, from which
its name is only made up."""

MAX_LABELS = 64
"""Labels exported of one container: half of the attributes that receivers take."""
MAX_LABEL_CHARACTERS = 4_096
"""A label may hold a file; one that is longer than this is none to tell containers apart by."""

# Beside the labels an event's attributes hold these, which win over labels of the same name.
_NO_LABELS = frozenset({"image", "name", "oldName", "exitCode", "signal", "execID", "execDuration"})

_GONE = frozenset({"exited", "dead", "removing"})
_IMAGE_ID = re.compile("(?:sha256:)?[0-9a-f]{4,64}")


@dataclass(frozen=True, slots=True)
class DockerContainer:
    """A container as the Engine describes it."""

    workload: Workload
    addresses: tuple[str, ...] = ()
    """In the networks that it is connected to; none of its own when it uses those of the host."""
    has_ended: bool = False
    labels_left_out: int = 0
    """Chosen labels beyond the bounds."""


def describe_inspected(answer: Json, labels: Sequence[str]) -> DockerContainer:
    """Return a container from the answer of an inspection; `labels` are shell patterns over their keys."""
    configuration = answer.get("Config") or {}
    image = configuration.get("Image") or ""
    workload, left_out = _describe(
        answer["Id"],
        (answer.get("Name") or "").removeprefix("/"),
        None if _is_image_id(image, answer.get("Image") or "") else _image_name(image),
        configuration.get("Labels") or {},
        labels,
    )
    has_ended = (answer.get("State") or {}).get("Status") in _GONE
    return DockerContainer(workload, () if has_ended else _addresses(answer), has_ended, left_out)


def describe_event(event: Json, labels: Sequence[str]) -> DockerContainer | None:
    """Return a container from an event about it: all but its addresses. None when the event doesn't name it.

    An event is enough to name a container that is gone before it can be asked for. The container is not
    resolved when its image may be named by an id, which an event leaves open.
    """
    attributes = event["Actor"].get("Attributes") or {}
    name, image = attributes.get("name"), attributes.get("image")
    if not name or not image:
        return None
    is_doubtful = _IMAGE_ID.fullmatch(image) is not None
    workload, left_out = _describe(
        event["Actor"]["ID"],
        name,
        None if is_doubtful else _image_name(image),
        {key: value for key, value in attributes.items() if key not in _NO_LABELS},
        labels,
        is_resolved=not is_doubtful,
    )
    return DockerContainer(workload, labels_left_out=left_out)


def _describe(
    container_id: str,
    name: str,
    image_name: str | None,
    labels: Mapping[str, str],
    chosen: Sequence[str],
    *,
    is_resolved: bool = True,
) -> tuple[Workload, int]:
    attributes = {"container.id": container_id, "container.runtime.name": "docker"}
    if name:
        attributes["container.name"] = name
    if image_name:
        attributes["container.image.name"] = image_name
    keys = [key for key in sorted(labels) if any(fnmatchcase(key, glob) for glob in chosen)]
    exported = [key for key in keys if len(labels[key]) <= MAX_LABEL_CHARACTERS][:MAX_LABELS]
    attributes.update((f"container.label.{key}", labels[key]) for key in exported)
    service = labels.get(COMPOSE_SERVICE)
    names = tuple(dict.fromkeys(each for each in (name, service) if each))
    workload = Workload(
        container_id=container_id, names=names, attributes=attributes, is_resolved=is_resolved
    )
    return workload, len(keys) - len(exported)


def _addresses(answer: Json) -> tuple[str, ...]:
    settings = answer.get("NetworkSettings") or {}
    networks: Iterable[Json] = (settings.get("Networks") or {}).values()
    found = [network.get(key) for network in networks for key in ("IPAddress", "GlobalIPv6Address")]
    return tuple(address for address in found if address)


def _is_image_id(image: str, image_id: str) -> bool:
    """Return whether an image is named by its id, or by a beginning of it."""
    if not _IMAGE_ID.fullmatch(image):
        return False
    return image_id.removeprefix("sha256:").startswith(image.removeprefix("sha256:"))


def _image_name(reference: str) -> str:
    """Return a reference without tag and digest; a colon before the last slash is that of a port."""
    name = reference.partition("@")[0]
    repository, colon, tag = name.rpartition(":")
    return repository if colon and "/" not in tag else name
