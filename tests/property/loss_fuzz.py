"""Conversations whose records get lost: is a request ever given another one's response without a flag?

Every request carries its number in its target, every response in a header, and a pair is wrong when the two
differ. `python -m tests.property.loss_fuzz --pairs 10000000 --seed 1` tries that many pairs and prints, for
each kind of loss, how many were flagged and how many were wrong without a flag; it fails when one was.

One integer gives a conversation and its losses, so that a wrong pair is found again by it alone:
`--only NUMBER` shows what was fed and what came out. `talks` makes the calls, `lossy_ring` makes of them
what the kernel side would deliver.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from ebpf.events import EventKind, SocketEvent
from parsers.http_exchange import HttpExchange, HttpRequest, HttpResponse
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker
from tests.builders import SECOND_NS
from tests.property.lossy_ring import LOSS_KINDS, Delivery, deliver
from tests.property.talks import Talk, draw_talk

LIMITS = ParserLimits(max_body=64)
PROGRESS_EVERY = 200_000
"""Pairs between two tables of a long run."""


@dataclass(slots=True)
class Tally:
    """What came of the conversations of one kind."""

    conversations: int = 0
    sent: int = 0
    """Requests that were answered, seen or not."""
    pairs: int = 0
    """Exchanges with a request and a response."""
    flagged: int = 0
    right_flagged: int = 0
    wrong_unflagged: int = 0

    def add(self, other: Tally) -> None:
        """Add up."""
        self.conversations += other.conversations
        self.sent += other.sent
        self.pairs += other.pairs
        self.flagged += other.flagged
        self.right_flagged += other.right_flagged
        self.wrong_unflagged += other.wrong_unflagged


@dataclass(slots=True)
class Results:
    """Tallies by kind of loss, and the numbers of conversations that gave a wrong pair unflagged."""

    tallies: dict[str, Tally] = field(default_factory=lambda: {kind: Tally() for kind in LOSS_KINDS})
    wrong: list[int] = field(default_factory=list)

    @property
    def total(self) -> Tally:
        """All kinds together."""
        total = Tally()
        for tally in self.tallies.values():
            total.add(tally)
        return total


def seen_number(message: HttpRequest | HttpResponse) -> bytes:
    """Return the number that a message carries."""
    if isinstance(message, HttpRequest):
        return (message.target or b"").removeprefix(b"/").partition(b"?")[0]
    for name, value in message.headers:
        if name == b"X-Id":
            return value
    raise AssertionError(f"a response that was never sent: {message}")


def feed(events: list[SocketEvent]) -> list[HttpExchange]:
    """Return what a tracker makes of the events; time passes with them, and the capture ends behind them."""
    tracker = ConnectionTracker(LIMITS)
    exchanges: list[HttpExchange] = []
    for event in events:
        exchanges += tracker.advance(event.ktime_ns)
        exchanges += tracker.feed(event)
    exchanges += tracker.advance(events[-1].ktime_ns + SECOND_NS // 2)
    if events[-1].kind is EventKind.CLOSED or events[-1].ktime_ns % 2:
        exchanges += tracker.advance(events[-1].ktime_ns + 20 * SECOND_NS)
    exchanges += tracker.flush()
    assert tracker.last_bug is None, tracker.last_bug
    assert tracker.buffered_bytes == 0
    return exchanges


def play(number: int) -> tuple[Talk, Delivery, list[HttpExchange]]:
    """Return the conversation of this number, what was delivered of it, and what the tracker made of that."""
    chance = random.Random(number)
    talk = draw_talk(chance)
    delivery = deliver(talk, chance)
    return talk, delivery, feed(delivery.events) if delivery.events else []


def is_wrong(exchange: HttpExchange) -> bool:
    """Whether both messages are there and do not belong together."""
    request, response = exchange.request, exchange.response
    return request is not None and response is not None and seen_number(request) != seen_number(response)


def try_conversation(number: int, results: Results) -> int:
    """Play a conversation and count what came of it; return the number of pairs."""
    talk, delivery, exchanges = play(number)
    tally = results.tallies[delivery.kind]
    tally.conversations += 1
    tally.sent += talk.exchanges
    pairs = 0
    for exchange in exchanges:
        if exchange.request is None or exchange.response is None:
            continue
        pairs += 1
        wrong = seen_number(exchange.request) != seen_number(exchange.response)
        if exchange.incomplete is not None:
            tally.flagged += 1
            tally.right_flagged += not wrong
        elif wrong:
            tally.wrong_unflagged += 1
            results.wrong.append(number)
    tally.pairs += pairs
    return pairs


def numbers_from(seed: int) -> Iterator[int]:
    """Return the numbers of the conversations of a run."""
    chance = random.Random(seed)
    while True:
        yield chance.getrandbits(62)


def try_pairs(pairs: int, seed: int, *, report_every: int = 0) -> Results:
    """Play conversations until so many pairs came of them."""
    results = Results()
    done = 0
    next_report = report_every
    for number in numbers_from(seed):
        done += try_conversation(number, results)
        if report_every and done >= next_report:
            next_report += report_every
            print(f"seed {seed}\n{table(results)}")
            for wrong in dict.fromkeys(results.wrong):
                print(f"wrong without a flag: --only {wrong}")
            print(flush=True)
        if done >= pairs:
            return results
    raise AssertionError("the numbers do not end")


def table(results: Results) -> str:
    """Return the tallies as text."""
    heads = ("conversations", "pairs", "flagged", "right, flagged", "wrong, not")
    lines = [f"{'lost':<22}" + "".join(f"{head:>17}" for head in heads)]
    for name, tally in [*results.tallies.items(), ("all", results.total)]:
        wrong_flagged = tally.flagged - tally.right_flagged
        right = tally.pairs - tally.wrong_unflagged - wrong_flagged
        share = 100 * tally.right_flagged / right if right else 0.0
        lines.append(
            f"{name:<22}{tally.conversations:>17,}{tally.pairs:>17,}{tally.flagged:>17,}"
            f"{share:>15.2f} %{tally.wrong_unflagged:>17,}"
        )
    return "\n".join(lines)


def describe_conversation(number: int) -> str:
    """Return what was fed of a conversation, and what came out."""
    talk, delivery, exchanges = play(number)
    lines = [f"{talk.description}; {delivery.kind}, {delivery.description}"]
    for event in delivery.events:
        arrow = "?" if event.kind is EventKind.OPENED else event.direction.name.lower()
        lines.append(
            f"  {event.ktime_ns / 1e9:.3f} {event.kind.name} {arrow} {event.position}+{event.length}"
            f" {event.missing!s} {bytes(event.payload[:60])!r}"
        )
    for exchange in exchanges:
        messages = [exchange.request, exchange.response]
        told = "-".join("?" if message is None else seen_number(message).decode() for message in messages)
        lines.append(f"  {told} {exchange.incomplete or ''}{' WRONG' if is_wrong(exchange) else ''}")
    return "\n".join(lines)


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="the number of one conversation, to be shown")
    arguments = parser.parse_args()
    if arguments.only is not None:
        print(describe_conversation(arguments.only))
        return 0
    results = try_pairs(arguments.pairs, arguments.seed, report_every=PROGRESS_EVERY)
    print(f"seed {arguments.seed}\n{table(results)}")
    for number in dict.fromkeys(results.wrong):
        print(f"wrong without a flag: --only {number}")
    return 1 if results.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
