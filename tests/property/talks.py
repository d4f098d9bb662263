"""Conversations for the loss fuzz: what both ends of an HTTP/1 connection write and read, call by call.

Plain `random` instead of hypothesis: millions of them are drawn, and one integer gives each again. Every
request has its number in its target, every response in a header and in its body, where it has one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
REQUEST, RESPONSE = 0, 1


@dataclass(slots=True)
class Call:
    """Bytes that one call moved."""

    side: int
    """REQUEST or RESPONSE."""
    data: bytes
    pause_ms: int = 0
    """Quiet before it, besides the time that every call takes."""
    begins_exchange: bool = False
    """It begins a request, and no other was open."""


@dataclass(slots=True)
class Talk:
    """What passes on one connection."""

    calls: list[Call] = field(default_factory=list)
    exchanges: int = 0
    closes: bool = True
    """The connection is seen to end; never False behind a body that the end delimits."""
    longest_head: int = 0
    """Bytes of it."""
    longest_upload: int = 0
    """Bytes of it, its head included."""
    pipelines: bool = False
    """The client may send a request before the previous one is answered."""
    description: str = ""


@dataclass(slots=True)
class _Exchange:
    head: bytes
    body: bytes
    """As it is framed."""
    interim: bytes
    response: bytes
    early: bool = False
    """The final response comes before the request's body."""
    drops_body: bool = False
    lasts: bool = False
    """The end of the connection ends the response."""


def _framed(chance: random.Random, head: bytes, content: bytes) -> tuple[bytes, bytes]:
    """Return a head that says how long the content is, and the content so framed."""
    if chance.random() < 0.5:
        return head + b"Content-Length: %d\r\n\r\n" % len(content), content
    size = chance.choice((1 + len(content) // 2, 7, 300, 4_000))
    if len(content) > 40 * size:
        size = len(content) // 3
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    coded = b"".join([b"%x\r\n%s\r\n" % (len(part), part) for part in parts])
    trailer = b"X-Sum: 1\r\n" if chance.random() < 0.1 else b""
    return head + b"Transfer-Encoding: chunked\r\n\r\n", coded + b"0\r\n" + trailer + b"\r\n"


def _content(chance: random.Random, number: int) -> bytes:
    drawn = chance.random()
    unit = b"<%d>" % number
    if drawn < 0.75:
        return unit * chance.randrange(1, 12)
    if drawn < 0.97:
        return unit * chance.randrange(12, 300)
    return unit * chance.randrange(3_000, 6_000)


def _draw_exchange(chance: random.Random, number: int, methods: list[bytes], *, is_last: bool) -> _Exchange:
    method = chance.choice(methods)
    long_target = b"?" + b"q" * chance.randrange(1_000, 3_000) if chance.random() < 0.02 else b""
    head = b"%s /%d%s HTTP/1.1\r\nHost: a\r\n" % (method, number, long_target)
    body = b""
    has_body = method in (b"POST", b"PUT", b"PROPFIND") or (method != b"HEAD" and chance.random() < 0.1)
    expects = has_body and chance.random() < 0.1
    early = has_body and not expects and chance.random() < 0.05
    if expects:
        head += b"Expect: 100-continue\r\n"
    if has_body:
        head, body = _framed(chance, head, _content(chance, number))
    else:
        head += b"\r\n"
    interim = b""
    if expects:
        interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    elif chance.random() < 0.05:
        interim = b"HTTP/1.1 103 Early Hints\r\nX-Id: %d\r\n\r\n" % number
    drops_body = expects and chance.random() < 0.3
    status = chance.choice((200, 200, 200, 404, 500, 204, 304)) if not drops_body else 417
    start = b"HTTP/1.1 %d Any\r\nX-Id: %d\r\n" % (status, number)
    lasts = False
    if method == b"HEAD":
        response = start + b"Content-Length: %d\r\n\r\n" % chance.randrange(1, 500)
    elif status in (204, 304):
        response = start + b"\r\n"
    elif is_last and chance.random() < 0.3:
        response = start + b"Connection: close\r\n\r\n" + _content(chance, number)
        lasts = True
    elif chance.random() < 0.1:
        response = start + b"Content-Length: 0\r\n\r\n"
    else:
        response = b"".join(_framed(chance, start, _content(chance, number)))
    return _Exchange(head, body, b"" if drops_body else interim, response, early, drops_body, lasts)


def _split(chance: random.Random, data: bytes, habit: str) -> list[bytes]:
    """Cut what is written at once into calls."""
    if habit == "whole" or len(data) < 2:
        return [data]
    if habit == "heads":
        end = data.find(b"\r\n\r\n") + 4
        return [part for part in (data[:end], data[end:]) if part]
    places = sorted({chance.randrange(1, len(data)) for _ in range(chance.randrange(4))})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def draw_talk(chance: random.Random) -> Talk:
    """Return a conversation: a client that sends one request at a time, batches of them, or a window."""
    talk = Talk()
    count = chance.choice((1, 2, 3, 4, 6, 9, 14, 30))
    style = chance.choice(("single", "single", "batches", "window", "sometimes"))
    methods = [b"GET", b"GET", b"POST", b"HEAD", b"PUT", b"DELETE"]
    drawn = chance.random()
    if drawn < 0.1:
        methods = [b"PROPFIND", b"FROB", b"REPORT"]
    elif drawn < 0.2:
        methods += ["".join(chance.choices(TOKEN, k=chance.randrange(1, 12))).encode(), b"PROPFIND"]
    habit = chance.choice(("whole", "whole", "heads", "anywhere"))
    pauses = chance.choice((0, 0, 0, 50, 400, 1_500))
    exchanges = [
        _draw_exchange(chance, number, methods, is_last=number == count) for number in range(1, 1 + count)
    ]
    talk.exchanges = count
    talk.longest_head = max(len(exchange.head) + 100 for exchange in exchanges)
    talk.longest_upload = max(len(exchange.head) + len(exchange.body) for exchange in exchanges)
    talk.closes = chance.random() < 0.7 or exchanges[-1].lasts
    talk.pipelines = style != "single"
    talk.description = f"{count} exchanges, {style}, calls {habit}, pauses of {pauses} ms"
    if style == "single":
        for exchange in exchanges:
            first = len(talk.calls)
            _say_alone(chance, talk, exchange, habit, pauses)
            talk.calls[first].begins_exchange = True
    elif style == "window":
        _say_in_window(chance, talk, exchanges, habit, chance.randrange(2, 4), pauses)
    else:
        _say_in_batches(chance, talk, exchanges, habit, style, pauses)
    return talk


def _say(chance: random.Random, talk: Talk, side: int, data: bytes, habit: str, pauses: int = 0) -> None:
    for part in _split(chance, data, habit):
        talk.calls.append(Call(side, part, chance.randrange(pauses) if pauses else 0))


def _say_alone(chance: random.Random, talk: Talk, exchange: _Exchange, habit: str, pauses: int) -> None:
    if exchange.drops_body:
        _say(chance, talk, REQUEST, exchange.head, habit, pauses)
        _say(chance, talk, RESPONSE, exchange.response, habit, pauses)
        return
    if exchange.early:
        _say(chance, talk, REQUEST, exchange.head, habit, pauses)
        _say(chance, talk, RESPONSE, exchange.response, habit)
        _say(chance, talk, REQUEST, exchange.body, habit)
        return
    if exchange.interim.startswith(b"HTTP/1.1 100"):
        _say(chance, talk, REQUEST, exchange.head, habit, pauses)
        _say(chance, talk, RESPONSE, exchange.interim, habit)
        _say(chance, talk, REQUEST, exchange.body, habit)
        _say(chance, talk, RESPONSE, exchange.response, habit, pauses)
        return
    _say(chance, talk, REQUEST, exchange.head + exchange.body, habit, pauses)
    _say(chance, talk, RESPONSE, exchange.interim + exchange.response, habit, pauses)


def _plain(exchange: _Exchange) -> tuple[bytes, bytes]:
    """Return what passes of an exchange whose client does not wait for anything."""
    return exchange.head + exchange.body, exchange.interim + exchange.response


def _say_in_batches(
    chance: random.Random, talk: Talk, exchanges: list[_Exchange], habit: str, style: str, pauses: int
) -> None:
    at = 0
    while at < len(exchanges):
        is_run = style == "batches" or chance.random() < 0.2
        size = chance.randrange(2, 5) if is_run else 1
        batch = exchanges[at : at + size]
        at += size
        first = len(talk.calls)
        if len(batch) == 1:
            _say_alone(chance, talk, batch[0], habit, pauses)
            talk.calls[first].begins_exchange = True
            continue
        messages = [_plain(exchange) for exchange in batch]
        for side in (REQUEST, RESPONSE):
            if chance.random() < 0.5:
                _say(chance, talk, side, b"".join([message[side] for message in messages]), habit, pauses)
            else:
                for message in messages:
                    _say(chance, talk, side, message[side], habit, pauses)
        talk.calls[first].begins_exchange = True


def _say_in_window(
    chance: random.Random, talk: Talk, exchanges: list[_Exchange], habit: str, depth: int, pauses: int
) -> None:
    """Let a client keep so many requests in flight."""
    messages = [_plain(exchange) for exchange in exchanges]
    for request, _ in messages[:depth]:
        _say(chance, talk, REQUEST, request, habit)
    for index, (_, response) in enumerate(messages):
        _say(chance, talk, RESPONSE, response, habit, pauses)
        if index + depth < len(messages):
            _say(chance, talk, REQUEST, messages[index + depth][0], habit, pauses)
    talk.calls[0].begins_exchange = True
