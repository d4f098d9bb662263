"""What was not opened: packets in which TCP may be, behind a layer that is unknown, encrypted or left alone.

Owns the counts, by words that complete "12 packets ... were not opened". It must not decide what is opened.
"""

from __future__ import annotations

from collections.abc import Mapping

OTHERS = "of other kinds"
"""What is counted beyond `PacketLimits.max_unopened_kinds`."""


class Unopened:
    """The counts of one capture; `counts["packets_not_opened"]` is added to."""

    def __init__(self, max_kinds: int, counts: dict[str, int]) -> None:
        self.counts: dict[str, int] = {}
        """Packets by words, in the order in which they came first."""
        self._max_kinds = max_kinds
        self._all = counts

    def add(self, words: str) -> None:
        """Count a packet."""
        self._all["packets_not_opened"] += 1
        if words not in self.counts and len(self.counts) >= self._max_kinds:
            words = OTHERS
        self.counts[words] = self.counts.get(words, 0) + 1


def describe_unopened(unopened: Mapping[str, int]) -> str:
    """Return the counts as a sentence, the largest first; "" without any."""
    kinds = sorted(unopened.items(), key=lambda kind: -kind[1])
    if not kinds:
        return ""
    parts = [f"{count} {words}" for words, count in kinds]
    noun = "packet" if kinds[0][1] == 1 else "packets"
    parts[0] = f"{kinds[0][1]} {noun} {kinds[0][0]}"
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{listed} {'was' if sum(unopened.values()) == 1 else 'were'} not opened"
