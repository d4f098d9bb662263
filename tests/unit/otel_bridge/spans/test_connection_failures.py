"""Which failures of a connection or a stream are errors of a span, and what they are called."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes

from ebpf.events import Direction, Role
from parsers.exchange import Incomplete
from parsers.http_exchange import StreamReset
from tests.unit.otel_bridge.exchanges import exchange, request, response, span_of

ROLES = pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])


@ROLES
@pytest.mark.parametrize("status", [None, 200, 404, 413, 500])
@pytest.mark.parametrize("code", [None, *map(int, ErrorCodes), max(ErrorCodes) + 1, 0x4711])
@pytest.mark.parametrize("client", [True, False])
def test_a_reset_is_an_error_unless_a_client_wants_no_more(
    role: Role,
    status: int | None,
    code: int | None,
    client: bool,  # noqa: FBT001 - a parameter
) -> None:
    given = exchange(role, request(), None if status is None else response(status))
    direction = Direction.EGRESS if (role is Role.CLIENT) == client else Direction.INGRESS
    given.incomplete = Incomplete.RESET
    given.reset = StreamReset(direction, code)
    span = span_of(given)
    name = ErrorCodes(code).name if code in set(ErrorCodes) else None
    error: str | None = name or "_OTHER"
    if client and (code is None or name in ("NO_ERROR", "CANCEL")):
        is_error = status is not None and status >= (500 if role is Role.SERVER else 400)
        error = str(status) if is_error else None
    assert span.attributes.get("error.type") == error
    assert span.is_error is (error is not None)
    assert span.attributes["wirespan.incomplete"] == "reset"
    assert span.attributes["wirespan.reset.direction"] == (
        "sent" if direction is Direction.EGRESS else "received"
    )
    assert span.attributes.get("wirespan.reset.code") == (None if code is None else name or str(code))


@ROLES
def test_a_stream_that_its_server_did_not_take_failed(role: Role) -> None:
    given = exchange(role, request(), None)
    given.incomplete = Incomplete.RESET
    given.reset = StreamReset(
        Direction.INGRESS if role is Role.CLIENT else Direction.EGRESS, None, untaken=True
    )
    span = span_of(given)
    assert span.attributes["error.type"] == span.attributes["wirespan.reset.code"] == "GOAWAY"


@pytest.mark.parametrize(
    "reset", [(ErrorCodes.CANCEL, False), (ErrorCodes.REFUSED_STREAM, False), (None, True)]
)
def test_a_client_that_takes_no_push_is_no_error(reset: tuple[int | None, bool]) -> None:
    given = exchange(Role.SERVER, request(), None)
    given.incomplete = Incomplete.RESET
    given.pushed = True
    given.reset = StreamReset(Direction.INGRESS, reset[0], untaken=reset[1])
    assert not span_of(given).is_error


@ROLES
@pytest.mark.parametrize("status", [200, 400, 413, 500])
@pytest.mark.parametrize("incomplete", [None, Incomplete.CLOSED])
def test_of_an_answered_exchange_the_status_tells(
    role: Role, status: int, incomplete: Incomplete | None
) -> None:
    given = exchange(role, request(), response(status))
    given.incomplete = incomplete
    given.answered = True
    span = span_of(given)
    is_error = status >= (500 if role is Role.SERVER else 400)
    assert span.is_error is is_error
    assert span.attributes.get("error.type") == (str(status) if is_error else None)


@ROLES
@pytest.mark.parametrize("status", [400, 408, 503])
def test_a_response_that_nobody_asked_for_is_no_error(role: Role, status: int) -> None:
    given = exchange(role, None, response(status))
    given.incomplete = Incomplete.UNSOLICITED
    span = span_of(given)
    assert not span.is_error
    assert "error.type" not in span.attributes
    assert span.attributes["wirespan.incomplete"] == "unsolicited"
    assert span.attributes["http.response.status_code"] == status


@ROLES
def test_a_refused_head_in_which_nothing_can_be_read(role: Role) -> None:
    given = exchange(role, request(), response(400))
    assert given.request is not None
    given.request.method = given.request.target = None
    given.request.version = ""
    given.request.headers = ()
    given.incomplete = Incomplete.INVALID
    span = span_of(given)
    assert span.name == "HTTP"
    assert span.attributes["http.request.method"] == "_OTHER"
    assert span.attributes["wirespan.incomplete"] == "invalid"
    assert not {"network.protocol.version", "url.path", "url.full"} & span.attributes.keys()
