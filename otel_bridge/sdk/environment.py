"""The standard OTEL_* variables of the SDK: span limits, resource, batches, on or off.

Owns which of them hold for an agent that describes other processes. It must not parse what a public class of
the SDK parses.
The variables of OTLP belong to `delivery.options`.

Contract: the SDK is imported only when one of its variables is set, since that takes 60 ms and 5 MiB. An
empty variable counts as unset (specification, "Empty value"), though `SpanLimits` would read it as no limit.
A value that cannot be used raises `SdkSettingError`, whose message names the variable and says what it
accepts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypedDict

from otel_bridge.sdk.components import RESOURCE_DETECTORS, SdkSettingError, require_component
from otel_bridge.span import AttributeValue

SPAN_LIMIT_VARIABLES = (
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
)
"""What `SpanLimits` reads. Spans have no links, but a bad value of those two is refused as any other."""

_RESOURCE_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"
_RESOURCE_DETECTORS = "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"
_ALL_DETECTORS = "*"

# What the agent's environment says of host, cluster and deployment holds for every process here. The rest
# (service, process, container, pod) would be said of other programs.
_SHARED_PREFIXES = ("host.", "k8s.node.", "k8s.cluster.", "cloud.", "deployment.", "os.")

UNHEEDED_VARIABLES: Mapping[str, str] = {
    "OTEL_TRACES_SAMPLER": "every captured exchange is exported: a sampler decides before a span begins and"
    " announces its decision downstream, which an observer cannot; sample in a Collector",
}
"""Variables that have no effect here, and why."""


class SpanLimitArguments(TypedDict, total=False):
    """Arguments of `SpanOptions`."""

    max_attributes: int
    max_value_length: int | None
    max_events: int
    max_event_attributes: int


def read_span_limits() -> SpanLimitArguments:
    """Return the limits as the SDK's `SpanLimits` reads them; nothing when no variable is set.

    Raises SdkSettingError for a value that is not a whole number from 0.
    """
    if not _set_variables(*SPAN_LIMIT_VARIABLES):
        return {}
    try:
        # The import is inside: a bad value of OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT fails it.
        from opentelemetry.sdk.trace import SpanLimits

        limits = SpanLimits()
    except ValueError as error:
        raise SdkSettingError(f"{error}; it accepts a whole number, 0 or more") from None
    counts = limits.max_span_attributes, limits.max_events, limits.max_event_attributes
    max_attributes, max_events, max_event_attributes = (count for count in counts if count is not None)
    return {
        "max_attributes": max_attributes,
        "max_value_length": limits.max_span_attribute_length,
        "max_events": max_events,
        "max_event_attributes": max_event_attributes,
    }


def read_host_attributes() -> dict[str, AttributeValue]:
    """Return what the agent's environment says of the host, its cluster and its deployment.

    The SDK parses OTEL_RESOURCE_ATTRIBUTES and runs the detectors that OTEL_EXPERIMENTAL_RESOURCE_DETECTORS
    names, each for 5 s at most; the variable wins over a detector. Raises SdkSettingError for a detector that
    is not installed.
    """
    if not _set_variables(_RESOURCE_ATTRIBUTES, _RESOURCE_DETECTORS):
        return {}
    for part in os.environ.get(_RESOURCE_DETECTORS, "").split(","):
        if (name := part.strip()) and name != _ALL_DETECTORS:
            require_component(RESOURCE_DETECTORS, name, _RESOURCE_DETECTORS)
    from opentelemetry.sdk.resources import Resource

    return {
        name: _attribute_value(value)
        for name, value in Resource.create().attributes.items()
        if name.startswith(_SHARED_PREFIXES)
    }


class BatchArguments(TypedDict, total=False):
    """Arguments of the sink in front of an exporter."""

    max_queue_spans: int
    max_batch_spans: int
    max_batch_age_seconds: float


def read_batch_arguments(environ: Mapping[str, str]) -> BatchArguments:
    """Return how spans wait for an exporter, by the OTEL_BSP_* variables; nothing when none is set.

    The SDK's batch processor takes its default for a bad value; here it raises SdkSettingError.
    """
    arguments: BatchArguments = {}
    if (spans := _positive(environ, "OTEL_BSP_MAX_QUEUE_SIZE")) is not None:
        arguments["max_queue_spans"] = spans
    if (spans := _positive(environ, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE")) is not None:
        arguments["max_batch_spans"] = spans
    if (milliseconds := _positive(environ, "OTEL_BSP_SCHEDULE_DELAY")) is not None:
        arguments["max_batch_age_seconds"] = milliseconds / 1000
    return arguments


def _positive(environ: Mapping[str, str], name: str) -> int | None:
    value = environ.get(name, "").strip()
    if not value:
        return None
    if not value.isdecimal() or not int(value):
        raise SdkSettingError(f"{name} is {value!r}; it must be a whole number, 1 or more")
    return int(value)


def is_disabled(environ: Mapping[str, str]) -> bool:
    """Return whether OTEL_SDK_DISABLED turns all export off. Raises SdkSettingError for another word."""
    value = environ.get("OTEL_SDK_DISABLED", "").strip()
    if value.lower() not in ("", "true", "false"):
        raise SdkSettingError(f"OTEL_SDK_DISABLED is {value!r}; it must be true or false")
    return value.lower() == "true"


def describe_unheeded(environ: Mapping[str, str]) -> list[str]:
    """Return a message for each variable that is set and has no effect."""
    return [
        f"{name} has no effect: {reason}" for name, reason in UNHEEDED_VARIABLES.items() if environ.get(name)
    ]


def _set_variables(*names: str) -> list[str]:
    """Return those that are set. One that is empty is removed, since parts of the SDK take it as a value."""
    found = []
    for name in names:
        value = os.environ.get(name)
        if value is not None and not value.strip():
            del os.environ[name]
        elif value is not None:
            found.append(name)
    return found


def _attribute_value(value: object) -> AttributeValue:
    """Return a detected value as one that spans can have; a number with a fraction, for one, as text."""
    if isinstance(value, str | bool | int | bytes):
        return value
    if isinstance(value, list | tuple):
        return tuple(str(each) for each in value)
    return str(value)
