"""What a reader may do in one step: immutable, made once, and with no method that does not matter."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from itertools import product

import pytest

from parsers.http1.reading_context import ReadingContext, request_context, response_context

BOTH = (False, True)


def test_a_context_of_requests_says_what_it_was_asked_for() -> None:
    for begin, resynchronise, lack in product(BOTH, BOTH, BOTH):
        first, second = (
            request_context(may_begin=begin, may_resynchronise=resynchronise, may_lack_body=lack)
            for _ in range(2)
        )
        assert first == ReadingContext(begin, resynchronise, lack, is_next_due=False, request_method=None)
        assert first is second


@pytest.mark.parametrize(
    ("method", "kept"),
    [(b"HEAD", b"HEAD"), (b"CONNECT", b"CONNECT"), (b"GET", None), (b"head", None), (None, None)],
)
def test_a_context_of_responses_keeps_a_method_that_decides_how_one_ends(
    method: bytes | None, kept: bytes | None
) -> None:
    for begin, resynchronise, lack, due in product(BOTH, BOTH, BOTH, BOTH):
        first, second = (
            response_context(
                may_begin=begin,
                may_resynchronise=resynchronise,
                may_lack_body=lack,
                is_next_due=due,
                request_method=method,
            )
            for _ in range(2)
        )
        assert first == ReadingContext(begin, resynchronise, lack, due, kept)
        assert first is second


def test_a_context_cannot_be_changed() -> None:
    context = request_context(may_begin=True, may_resynchronise=True, may_lack_body=False)
    with pytest.raises(FrozenInstanceError):
        context.may_begin = False  # type: ignore[misc]
