"""What a reader of one direction may do in its next step, as the rest of the connection decides it.

Owns the values that one step depends on and that the bytes of the direction do not show. It must not decide
them: `conversation` does.

Contract: contexts are immutable. All that can occur are made once, so that a step allocates none.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final

from parsers.http1.framing import METHODS_THAT_FRAME


@dataclass(frozen=True, slots=True)
class ReadingContext:
    """The argument of `MessageReader.advance`."""

    may_begin: bool
    """A message may begin."""
    may_resynchronise: bool
    """A message that is found after a loss counts; in an unseen tail, the next message may begin."""
    may_lack_body: bool
    """The announced body may turn out to be absent, and the next message may stand in its place."""
    is_next_due: bool
    """The next message is awaited, so an unseen tail should be over."""
    request_method: bytes | None
    """Method of the request that the next response answers, where it decides how that response ends."""


_BOTH: Final = (False, True)

REQUEST_CONTEXTS: Final = {
    values: ReadingContext(*values, is_next_due=False, request_method=None)
    for values in product(_BOTH, _BOTH, _BOTH)
}
"""By `may_begin`, `may_resynchronise` and `may_lack_body`."""

RESPONSE_CONTEXTS: Final = {
    values: ReadingContext(*values)
    for values in product(_BOTH, _BOTH, _BOTH, _BOTH, (None, *sorted(METHODS_THAT_FRAME)))
}
"""By all fields in their order. A method outside `METHODS_THAT_FRAME` is None, like an unknown one."""
