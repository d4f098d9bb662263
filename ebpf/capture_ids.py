"""The id of a capture: what distinguishes its connections from those of every other capture.

Owns how such an id comes about. A live capture draws one at random, and its recording keeps it. A recording
of formats 1 and 2, and a packet capture, get one from what they begin with, so that the same file always has
the same id.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import Final

CAPTURE_ID_BYTES: Final = 16


def new_capture_id() -> bytes:
    """Return a random id."""
    return os.urandom(CAPTURE_ID_BYTES)


def derive_capture_id(*beginnings: bytes) -> bytes:
    """Return the id of an input that has none, from what it begins with."""
    digest = blake2b(digest_size=CAPTURE_ID_BYTES, person=b"wirespan capture")
    for beginning in beginnings:
        digest.update(len(beginning).to_bytes(8, "little"))
        digest.update(beginning)
    return digest.digest()
