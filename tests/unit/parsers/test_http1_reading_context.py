"""What a reader may do in one step: immutable, and made once for every case that can occur."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, astuple
from itertools import product

import pytest

from parsers.http1.reading_context import REQUEST_CONTEXTS, RESPONSE_CONTEXTS

BOTH = (False, True)


def test_the_contexts_of_requests_are_found_by_what_they_say() -> None:
    assert set(REQUEST_CONTEXTS) == set(product(BOTH, BOTH, BOTH))
    for values, context in REQUEST_CONTEXTS.items():
        assert astuple(context) == (*values, False, None)


def test_the_contexts_of_responses_are_found_by_what_they_say() -> None:
    methods = (None, b"HEAD", b"CONNECT")
    assert set(RESPONSE_CONTEXTS) == set(product(BOTH, BOTH, BOTH, BOTH, methods))
    for values, context in RESPONSE_CONTEXTS.items():
        assert astuple(context) == values


def test_a_context_cannot_be_changed() -> None:
    context = REQUEST_CONTEXTS[True, True, False]
    with pytest.raises(FrozenInstanceError):
        context.may_begin = False  # type: ignore[misc]
