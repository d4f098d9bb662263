"""However a conversation is cut into calls and wherever it ends: what its last exchange says is true."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ebpf.events import Role
from parsers.exchange import Incomplete
from parsers.http_exchange import HttpExchange
from tests.builders import Conversation

BODY = b"a body of some length"
ANSWER = b"no more, please"
REQUESTS = {
    "length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,
    "chunked": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
    % (len(BODY), BODY),
    "none": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
}
RESPONSES = {
    "length": b"Content-Length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER),
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(ANSWER), ANSWER),
    "until_end": b"\r\n" + ANSWER,
}


def send(talk: Conversation, data: bytes, cuts: list[int], *, is_request: bool) -> None:
    places = sorted({cut % len(data) for cut in cuts if data} - {0})
    for start, stop in zip([0, *places], [*places, len(data)], strict=True):
        if start < stop:
            (talk.request if is_request else talk.response)(data[start:stop])


@given(
    st.sampled_from(sorted(REQUESTS)),
    st.sampled_from(sorted(RESPONSES)),
    st.sampled_from([200, 302, 400, 401, 403, 404, 413, 500, 503]),
    st.integers(0, 200),
    st.integers(0, 200),
    st.lists(st.integers(1, 200), max_size=5),
    st.permutations(["requests", "responses"]).flatmap(
        lambda order: st.integers(0, 2).map(lambda count: order[:count])
    ),
    st.sampled_from([Role.SERVER, Role.CLIENT]),
    st.integers(0, 2),
)
def test_an_exchange_is_whole_exactly_when_its_answer_is(
    request_framing: str,
    response_framing: str,
    status: int,
    request_kept: int,
    response_kept: int,
    cuts: list[int],
    ends: list[str],
    role: Role,
    before: int,
) -> None:
    talk = Conversation(role=role)
    for _ in range(before):
        talk.request(REQUESTS["none"])
        talk.response(b"HTTP/1.1 204 No Content\r\n\r\n")
    request = REQUESTS[request_framing]
    head_size = request.index(b"\r\n\r\n") + 4
    sent = request[: min(len(request), head_size + request_kept)]
    response = b"HTTP/1.1 %d Said\r\n%s" % (status, RESPONSES[response_framing])
    answered = response[:response_kept]
    send(talk, sent, cuts, is_request=True)
    send(talk, answered, cuts, is_request=False)
    for direction in ends:
        (talk.end_requests if direction == "requests" else talk.end_responses)()
    talk.close()

    *earlier, last = talk.run()
    assert [exchange.incomplete for exchange in earlier] == [None] * before
    head_end = response.index(b"\r\n\r\n") + 4
    is_whole = len(answered) == len(response) and (response_framing != "until_end" or "responses" in ends)
    if response_framing == "until_end" and "responses" in ends:
        is_whole = len(answered) >= head_end
    check(last, is_whole=is_whole, request_is_whole=sent == request, has_head=len(answered) >= head_end)


def check(exchange: HttpExchange, *, is_whole: bool, request_is_whole: bool, has_head: bool) -> None:
    assert exchange.request is not None
    assert (exchange.response is not None) == has_head
    assert exchange.answered == is_whole
    body = exchange.request.body
    assert body.size is not None
    assert body.content == BODY[: body.size]
    if is_whole:
        assert exchange.incomplete is None
        assert exchange.anomalies == (() if request_is_whole else ("request_cut_short",))
    elif has_head:
        assert exchange.incomplete is Incomplete.CLOSED
    else:
        assert exchange.incomplete in (Incomplete.CLOSED, Incomplete.ONE_SIDE)
