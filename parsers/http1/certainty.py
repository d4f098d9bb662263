"""How sure the order of the messages of a connection is, and what that means for a pair.

Owns the three values only. What leads from one to another is in `pairing`.

| certainty | means | a response without request | a pair |
|---|---|---|---|
| CERTAIN | every byte since birth is accounted for | held for its request | sure |
| ALTERNATING | one request at a time: the next response is that of the newest one | emitted at once | sure |
| DOUBTFUL | responses may be due whose requests were not seen | emitted at once | flagged |
"""

from __future__ import annotations

from enum import Enum


class Certainty(Enum):
    """How sure the order of messages is."""

    CERTAIN = "certain"
    ALTERNATING = "alternating"
    DOUBTFUL = "doubtful"
