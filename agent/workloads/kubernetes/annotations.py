"""What annotations of a pod or a namespace ask for: `wirespan.io/capture` and its like.

Owns their names, what each accepts, and what is said of a value that isn't accepted. Pure. An invalid value
counts as if the annotation weren't there, so that what holds otherwise holds; it is returned beside the valid
ones, so that its author gets a message.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.selection_rules import CaptureDirection

PREFIX = "wirespan.io/"
MAX_CONTAINERS = 256
"""Container names in one annotation: more than a pod of any use has."""
MAX_PORTS = 64
"""Ports in one annotation: each becomes an entry in the kernel for each process of the container."""
MAX_SERVICE_NAME = 255
"""Characters of a service name: backends index it."""
MAX_SHOWN = 80
"""Characters of a value that a message repeats; an annotation may hold 256 KiB."""

# RFC 1123 label, as Kubernetes requires of a container's name.
_CONTAINER_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureAnnotations:
    """The valid annotations of one object. None: not there, or not valid."""

    capture: bool | None = None
    direction: CaptureDirection | None = None
    containers: frozenset[str] | None = None
    bodies: bool | None = None
    tls: bool | None = None
    service_name: str | None = None
    ports: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class InvalidAnnotation:
    """An annotation that is not heeded, and why."""

    key: str
    value: str
    accepted: str
    """What would be: `"true" or "false"`."""

    def __str__(self) -> str:
        """Say what is wrong and what is accepted, in one line of bounded length."""
        return (
            f"annotation {shorten(self.key)}: {shorten(self.value)!r} is not valid; accepted: {self.accepted}"
        )


NO_ANNOTATIONS = CaptureAnnotations()


def parse_annotations(
    annotations: Mapping[str, str],
) -> tuple[CaptureAnnotations, tuple[InvalidAnnotation, ...]]:
    """Return what an object's annotations ask for, and those below our prefix that are not valid."""
    values: dict[str, object] = {}
    invalid: list[InvalidAnnotation] = []
    for key, text in sorted(annotations.items()):
        if not key.startswith(PREFIX):
            continue
        known = _KNOWN.get(key.removeprefix(PREFIX))
        if known is None:
            invalid.append(InvalidAnnotation(key, text, _known_keys(key)))
            continue
        field, parse, accepted = known
        value = parse(text.strip())
        if value is None:
            invalid.append(InvalidAnnotation(key, text, accepted))
        else:
            values[field] = value
    return CaptureAnnotations(**values), tuple(invalid)  # type: ignore[arg-type]  # _KNOWN pairs field and type


def shorten(text: str) -> str:
    """Return a text for a message: not longer than MAX_SHOWN, the cut marked."""
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _known_keys(key: str) -> str:
    near = difflib.get_close_matches(key.removeprefix(PREFIX), list(_KNOWN), n=1, cutoff=0.6)
    hint = f" (did you mean {PREFIX}{near[0]}?)" if near else ""
    return f"the keys {', '.join(PREFIX + name for name in _KNOWN)}{hint}"


def _parse_truth(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text)


def _parse_direction(text: str) -> CaptureDirection | None:
    return CaptureDirection(text) if text in list(CaptureDirection) else None


def _parse_containers(text: str) -> frozenset[str] | None:
    names = [part.strip() for part in text.split(",")]
    if len(names) > MAX_CONTAINERS or not all(_CONTAINER_NAME.fullmatch(name) for name in names):
        return None
    return frozenset(names)


def _parse_ports(text: str) -> frozenset[int] | None:
    ports = [part.strip() for part in text.split(",")]
    if len(ports) > MAX_PORTS:
        return None
    # A number of more digits than a port has would cost time to convert.
    if not all(port.isascii() and port.isdecimal() and len(port) <= 5 for port in ports):
        return None
    numbers = frozenset(int(port) for port in ports)
    return numbers if all(1 <= number <= 65_535 for number in numbers) else None


def _parse_service_name(text: str) -> str | None:
    return text if text and len(text) <= MAX_SERVICE_NAME and text.isprintable() else None


_KNOWN: Mapping[str, tuple[str, Callable[[str], object], str]] = {
    "capture": ("capture", _parse_truth, '"true" or "false"'),
    "direction": ("direction", _parse_direction, "ingress, egress or both"),
    "containers": (
        "containers",
        _parse_containers,
        f'names of containers, separated by commas: "nginx,app" (at most {MAX_CONTAINERS})',
    ),
    "bodies": ("bodies", _parse_truth, '"true" or "false"'),
    "tls": ("tls", _parse_truth, '"true" or "false"'),
    "service-name": (
        "service_name",
        _parse_service_name,
        f"a name of 1 to {MAX_SERVICE_NAME} printable characters",
    ),
    "ports": (
        "ports",
        _parse_ports,
        f'ports from 1 to 65535, separated by commas: "8080,9090" (at most {MAX_PORTS})',
    ),
}
