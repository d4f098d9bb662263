"""What annotations ask for, and what is said of those that aren't valid."""

import pytest

from agent.selection_rules import CaptureDirection
from agent.workloads.kubernetes.annotations import (
    MAX_CONTAINERS,
    MAX_PORTS,
    MAX_SERVICE_NAME,
    MAX_SHOWN,
    NO_ANNOTATIONS,
    CaptureAnnotations,
    parse_annotations,
)


def test_each_annotation_has_its_value() -> None:
    parsed, invalid = parse_annotations(
        {
            "wirespan.io/capture": "true",
            "wirespan.io/direction": "egress",
            "wirespan.io/containers": "nginx, app",
            "wirespan.io/bodies": "false",
            "wirespan.io/tls": "false",
            "wirespan.io/service-name": " Check out ",
            "wirespan.io/ports": "8080, 9090,8080",
            "example.com/wirespan.io": "of no concern",
        }
    )
    assert invalid == ()
    assert parsed == CaptureAnnotations(
        capture=True,
        direction=CaptureDirection.EGRESS,
        containers=frozenset({"nginx", "app"}),
        bodies=False,
        tls=False,
        service_name="Check out",
        ports=frozenset({8080, 9090}),
    )


def test_without_annotations_nothing_is_asked_for() -> None:
    assert parse_annotations({"app.kubernetes.io/name": "shop"}) == (NO_ANNOTATIONS, ())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("capture", "True"),
        ("capture", "yes"),
        ("capture", ""),
        ("direction", "in"),
        ("direction", "ingress,egress"),
        ("containers", ""),
        ("containers", "nginx,"),
        ("containers", "Nginx"),
        ("containers", "a" * 64),
        ("containers", ",".join(f"c{number}" for number in range(MAX_CONTAINERS + 1))),
        ("bodies", "no"),
        ("tls", "False"),
        ("service-name", "  "),
        ("service-name", "two\nlines"),
        ("service-name", "x" * (MAX_SERVICE_NAME + 1)),
        ("ports", "0"),
        ("ports", "65536"),
        ("ports", "http"),
        ("ports", "80-90"),
        ("ports", "80,,90"),
        ("ports", "-1"),
        ("ports", "٨٠"),
        ("ports", "9" * 10_000),
        ("ports", ",".join(str(number) for number in range(1, MAX_PORTS + 2))),
    ],
)
def test_an_invalid_value_is_as_if_it_were_not_there(key: str, value: str) -> None:
    parsed, (invalid,) = parse_annotations({f"wirespan.io/{key}": value})
    assert parsed == NO_ANNOTATIONS
    assert (invalid.key, invalid.value) == (f"wirespan.io/{key}", value)
    assert invalid.accepted


def test_an_invalid_value_leaves_the_others_in_force() -> None:
    parsed, invalid = parse_annotations({"wirespan.io/capture": "true", "wirespan.io/ports": "many"})
    assert parsed.capture is True
    assert [each.key for each in invalid] == ["wirespan.io/ports"]


def test_the_bounds_themselves_are_accepted() -> None:
    names = [f"c{number}" for number in range(MAX_CONTAINERS)]
    ports = [str(number) for number in range(1, MAX_PORTS + 1)]
    parsed, invalid = parse_annotations(
        {
            "wirespan.io/containers": ",".join(names),
            "wirespan.io/ports": ",".join(ports),
            "wirespan.io/service-name": "x" * MAX_SERVICE_NAME,
        }
    )
    assert invalid == ()
    assert parsed.containers == frozenset(names)


def test_an_unknown_key_is_invalid_and_names_a_near_miss() -> None:
    _, (invalid,) = parse_annotations({"wirespan.io/captrue": "true"})
    assert "did you mean wirespan.io/capture?" in str(invalid)
    _, (invalid,) = parse_annotations({"wirespan.io/zzz": "true"})
    assert "did you mean" not in str(invalid)
    assert "wirespan.io/ports" in str(invalid)


def test_the_message_says_what_is_accepted_and_is_short() -> None:
    _, (invalid,) = parse_annotations({"wirespan.io/direction": "x" * 200_000})
    message = str(invalid)
    assert "ingress, egress or both" in message
    assert "…" in message
    assert len(message) < 3 * MAX_SHOWN
    _, (invalid,) = parse_annotations({"wirespan.io/capture": "a\nb"})
    assert "\n" not in str(invalid)
