"""docker-compose.yml, from `up` to `down`."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.containers.engine import until
from tests.image.probes import probes_of, remaining
from tests.stack.compose import Stack
from tests.stack.stand_ins import services

# The first run builds images, Jaeger among them.
pytestmark = [pytest.mark.stack, pytest.mark.timeout(5_400)]

SHOP = ("gateway", "orders", "catalogue", "stock", "traffic")
SHOWN_SECONDS = 60.0
SECRETS = ("eyJhbGciOiJIUzI1NiJ9", "4111 1111 1111 1111", "correct horse", "k-123456")


def tags_of(span: dict[str, Any]) -> dict[str, Any]:
    return {tag["key"]: tag["value"] for tag in span["tags"]}


def shows_headers_and_bodies(spans: list[dict[str, Any]]) -> bool:
    keys = {key for span in spans for key in tags_of(span)}
    return {
        "http.request.header.traceparent",
        "http.response.header.content-type",
        "http.response.body.content",
    } <= keys


def is_complete(stack: Stack) -> bool:
    return all(shows_headers_and_bodies(stack.jaeger_spans(service)) for service in SHOP)


def test_one_command_shows_the_shop_in_jaeger_and_another_leaves_nothing(stack: Stack) -> None:
    resources = stack.resources()
    assert set(SHOP) < set(services())
    begun = time.monotonic()
    deadline = begun + SHOWN_SECONDS
    stack.up()
    while not is_complete(stack):
        shown = {service: len(stack.jaeger_spans(service)) for service in SHOP}
        assert time.monotonic() < deadline, (shown, stack.compose("logs", "--tail", "20"))
        time.sleep(0.2)
    seconds = time.monotonic() - begun
    print(f"all of the shop is in Jaeger after {seconds:.0f} s")  # noqa: T201 (a figure of design 0008)
    assert {product["id"] for product in stack.ask_gateway("/products")} == {7, 12, 13}

    # One trace goes through all of the shop, over HTTP/2 at its end; errors and slow calls are seen as such.
    spans = {service: stack.jaeger_spans(service) for service in SHOP}
    joined = set.intersection(*({span["traceID"] for span in spans[service]} for service in SHOP))
    assert joined
    assert {tags_of(span)["network.protocol.version"] for span in spans["stock"]} == {"2"}
    until(
        lambda: (
            {200, 201, 404, 422, 502}
            <= {tags_of(span).get("http.response.status_code") for span in stack.jaeger_spans("gateway")}
        ),
        "not every kind of answer is in Jaeger",
    )
    until(
        lambda: any(span["duration"] > 1_000_000 for span in stack.jaeger_spans("orders")),
        "no slow call is in Jaeger",
    )

    # What the agent had in hand is delivered when it ends, in both places, and holds no credential.
    stack.compose("stop", "traffic")
    agent = stack.container("wirespan")
    probes = probes_of(agent.pid)
    assert all(probes.values())
    stack.compose("stop", "wirespan")
    assert agent.inspect()["State"]["ExitCode"] == 0
    until(lambda: not any(remaining(probes).values()), "something is left in the kernel")
    until(lambda: spans_in_jaeger(stack) == spans_in_file(stack), "Jaeger and the Collector's file differ")
    assert {service for service, _ in spans_in_file(stack)} == set(SHOP)
    exported = json.dumps([span for _, span in stack.collector_spans()])
    assert "REDACTED" in exported
    assert [secret for secret in SECRETS if secret in exported] == []

    stack.compose("down")
    assert stack.resources() == resources == dict.fromkeys(resources, "")


def spans_in_jaeger(stack: Stack) -> set[tuple[str, str]]:
    return {(service, span["spanID"]) for service in SHOP for span in stack.jaeger_spans(service)}


def spans_in_file(stack: Stack) -> set[tuple[str, str]]:
    return {(service, span["spanId"]) for service, span in stack.collector_spans()}
